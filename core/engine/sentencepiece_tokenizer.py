"""A checkpoint's SentencePiece file, read by the sentencepiece library, with the tokens that its family adds.

ChatGLM2, ChatGLM3, Llama, Vicuna and Gemma ship such a file; the first generation of ChatGLM spells white space in
pieces of its own on top of it. Nothing here knows a prompt format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from core.engine.piece_models import PieceFinder
from core.engine.piece_normaliser import SPACE_MARK
from core.engine.tokenizer import without_surrogates
from core.errors import MissingExtra, ModelLoadError

__all__ = ["ChatGLMTokenizer", "SentencePieceTokenizer"]

MOST_BLANKS = 80
LINE_BREAK, TAB, BLANKS = "<n>", "<|tab|>", "<|blank_{}|>"
APART = "\ue000"
NO_PIECE = 1 << 40
SPELLED = re.compile(r"<n>|<\|tab\|>|<\|blank_(\d+)\|>")


class SentencePieceTokenizer:
    """Cuts texts as the sentencepiece library does, and knows further control tokens.

    Attributes:
        bos_id, eos_id: tokens that open a text and end an answer; None where the model has none.
    """

    def __init__(
        self,
        data: bytes,
        *,
        added: Mapping[str, int] | None = None,
        bos_id: int | None = None,
        eos_id: int | None = None,
        spaces_every_stretch: bool = True,
    ) -> None:
        """
        Args:
            data: of the file.
            added: ids of control tokens that the file does not have, or has as ordinary pieces, by their text.
            bos_id, eos_id: instead of the file's own.
            spaces_every_stretch: the space that the file puts in front of a text is put behind control tokens too.

        Raises:
            ModelLoadError: the data is no such file.
        """
        self._data = data
        self._library = _open(data)
        self._num_pieces: int = self._library.get_piece_size()
        self._added = dict(added or {})
        self._guarded = frozenset(self._added.values())
        self._spaces_every_stretch = spaces_every_stretch
        own_bos, own_eos = self._library.bos_id(), self._library.eos_id()
        self.bos_id = bos_id if bos_id is not None else own_bos if own_bos >= 0 else None
        self.eos_id = eos_id if eos_id is not None else own_eos if own_eos >= 0 else None

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        return max(self._num_pieces, *(number + 1 for number in self._added.values()), 0)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of control tokens, the file's and the added ones, by their text."""
        controls = (number for number in range(self._num_pieces) if self._library.is_control(number))
        return MappingProxyType({**{self._library.id_to_piece(number): number for number in controls}, **self._added})

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``."""
        text = without_surrogates(text)
        if not parse_special:
            return self._plain(text, is_start=True)
        ids: list[int] = []
        for position, stretch in enumerate(self._finder.split(text)):
            if isinstance(stretch, int):
                ids.append(stretch)
            else:
                ids += self._plain(stretch, is_start=position == 0 or self._spaces_every_stretch)
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8 and without the space put in front."""
        numbers = list(ids)
        text = self.decode_bytes(numbers, keep_special=keep_special).decode("utf-8", "replace")
        plain = [own for number in numbers if 0 <= (own := self._own(number)) < self._num_pieces]
        starts_with_mark = bool(plain) and str(self._library.id_to_piece(plain[0])).startswith(SPACE_MARK)
        return text[1:] if starts_with_mark and text.startswith(" ") and self._has_space_in_front else text

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control tokens left out unless kept."""
        return b"".join([self._spell(self._own(number), keep_special) for number in ids])

    def to_bytes(self) -> bytes:
        """The file itself; what is added to it stands in the files beside it."""
        return self._data

    def _plain(self, text: str, *, is_start: bool) -> list[int]:
        ids = self._cut(text, is_start)
        if self._guarded.isdisjoint(ids):
            return ids
        # Some files have control tokens among their ordinary pieces, which the library finds in any text: so a text
        # that looks like one is cut in its middle, and each half is text.
        matches = list(self._look_alike.finditer(text))
        if not matches:  # spelled so that only the library sees it
            return [number for number in ids if number not in self._guarded]
        cuts = [0, *((match.start() + match.end()) // 2 for match in matches), len(text)]
        parts = [text[start:stop] for start, stop in pairwise(cuts)]
        return [number for at, part in enumerate(parts) for number in self._plain(part, is_start=is_start and at == 0)]

    def _cut(self, text: str, is_start: bool) -> list[int]:
        if is_start or not self._has_space_in_front:
            ids: list[int] = self._library.encode(text)
            return ids
        # The library always puts its space in front, so it gets something there that no piece goes on from.
        ids = self._library.encode(APART + text)
        return ids[len(self._library.encode(APART)) :]

    def _own(self, number: int) -> int:
        """The id as the file counts."""
        return number

    def _spell(self, number: int, keep_special: bool) -> bytes:
        if not 0 <= number < self._num_pieces:
            return self._added_texts.get(number, b"") if keep_special else b""
        library = self._library
        if library.is_byte(number):
            return bytes([int(library.id_to_piece(number)[3:-1], 16)])
        if number in self._added_texts or library.is_control(number):
            return str(library.id_to_piece(number)).encode() if keep_special else b""
        if library.is_unknown(number):
            return " \u2047 ".encode()
        return str(library.id_to_piece(number)).replace(SPACE_MARK, " ").encode()

    @cached_property
    def _added_texts(self) -> dict[int, bytes]:
        return {number: text.encode() for text, number in self._added.items()}

    @cached_property
    def _look_alike(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self._added, key=len, reverse=True))))

    @cached_property
    def _finder(self) -> PieceFinder:
        return PieceFinder({text: number for text, number in self.special_tokens.items() if text})

    @cached_property
    def _has_space_in_front(self) -> bool:
        # Asked of the library rather than read from the file, whose format is the library's matter.
        pieces = self._library.encode("a", out_type=str)
        return bool(pieces) and pieces[0].startswith(SPACE_MARK)


class ChatGLMTokenizer(SentencePieceTokenizer):
    """The first generation's: white space is spelled in pieces, and the first release shifts all ids of text.

    Args:
        specials: ids of control tokens as the model has them, by their text.
        shift: added to the id of each piece.
    """

    def __init__(
        self, data: bytes, *, specials: Mapping[str, int], shift: int, bos_id: int | None, eos_id: int | None
    ) -> None:
        super().__init__(data, added=specials, bos_id=bos_id, eos_id=eos_id)
        self._shift = shift

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        return max(self._num_pieces + self._shift, *(number + 1 for number in self._added.values()), 0)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of control tokens by their text."""
        return MappingProxyType(dict(self._added))

    def _cut(self, text: str, is_start: bool) -> list[int]:
        return [number + self._shift for number in super()._cut(_spell_blanks(text), is_start)]

    def _spell(self, number: int, keep_special: bool) -> bytes:
        if number < 0:  # a control token, see _own
            return self._added_texts.get(-number - 1, b"") if keep_special else b""
        spelled = super()._spell(number, keep_special)
        found = SPELLED.fullmatch(spelled.decode("utf-8", "ignore").strip())
        if found is None:
            return spelled
        white = {LINE_BREAK: "\n", TAB: "\t"}.get(found[0]) or " " * int(found[1])
        return white.encode()

    def _own(self, number: int) -> int:
        """The id in the file; below zero for a control token, whose id may be that of a piece too."""
        if number in self._added_texts:
            return -number - 1
        return number - self._shift if number >= self._shift else NO_PIECE


def _spell_blanks(text: str) -> str:
    text = text.replace("\n", LINE_BREAK).replace("\t", TAB)
    # The longest runs first, each taken from the left.
    return re.sub(f" {{2,{MOST_BLANKS}}}", lambda run: BLANKS.format(len(run[0])), text)


def _open(data: bytes) -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as missing:
        raise MissingExtra("this checkpoint's tokenizer needs sentencepiece: pip install sentencepiece") from missing
    library = sentencepiece.SentencePieceProcessor()
    try:
        library.LoadFromSerializedProto(data)
    except (RuntimeError, OSError, TypeError) as wrong:
        raise ModelLoadError(
            f"the tokenizer is no SentencePiece file ({str(wrong).strip().splitlines()[0]}); fetch it again"
        ) from wrong
    return library
