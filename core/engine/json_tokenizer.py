"""A checkpoint's tokenizer.json, or its vocab.json and merges.txt, read by the tokenizers library.

Nothing here knows a prompt format.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from core.engine.bytelevel_tokenizer import bytes_of_printable
from core.engine.piece_normaliser import SPACE_MARK
from core.engine.tokenizer import without_surrogates
from core.errors import ModelLoadError

__all__ = ["JsonTokenizer", "build_byte_level"]

BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class JsonTokenizer:
    """Cuts texts as the tokenizers library does.

    Attributes:
        bos_id, eos_id: tokens that open a text and end an answer; None where the checkpoint names none.
    """

    def __init__(
        self, data: bytes, *, bos: str | None = None, eos: str | None = None, added: Mapping[str, int] | None = None
    ) -> None:
        """
        Args:
            data: of tokenizer.json.
            bos, eos: texts of the tokens that open a text and end an answer.
            added: control tokens named beside the file, by their text; those that the file lacks are added.

        Raises:
            ModelLoadError: the data is no such file, or cuts texts in a way that cannot be undone token by token.
        """
        from tokenizers import AddedToken, Tokenizer

        self._data = data
        try:
            self._library: Any = Tokenizer.from_buffer(data)
            self._spell_piece = _speller(json.loads(data))
        except ModelLoadError:
            raise
        except Exception as wrong:  # the library has no class of its own for this
            raise ModelLoadError(
                f"tokenizer.json cannot be read ({str(wrong).strip().splitlines()[0]}); fetch it again"
            ) from wrong
        # In the order of their ids, since the library gives each the next one.
        missing = sorted((number, text) for text, number in (added or {}).items() if self._id(text) is None)
        self._library.add_special_tokens([AddedToken(text, special=True, normalized=False) for _, text in missing])
        self._lock = threading.Lock()
        self.bos_id, self.eos_id = self._id(bos), self._id(eos)

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        highest = max(self._added, default=-1)
        return max(int(self._library.get_vocab_size(with_added_tokens=True)), highest + 1)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of control tokens by their text."""
        return MappingProxyType({token.content: number for number, token in self._added.items() if token.special})

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``."""
        with self._lock:
            self._library.encode_special_tokens = not parse_special
            ids: list[int] = self._library.encode(without_surrogates(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8."""
        text: str = self._library.decode(list(ids), skip_special_tokens=not keep_special)
        return text

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control tokens left out unless kept."""
        return b"".join([self._spell(number, keep_special) for number in ids])

    def to_bytes(self) -> bytes:
        """The file itself; what is added to it stands in the files beside it."""
        return self._data

    def _id(self, text: str | None) -> int | None:
        number: int | None = None if text is None else self._library.token_to_id(text)
        return number

    def _spell(self, number: int, keep_special: bool) -> bytes:
        if (token := self._added.get(number)) is not None:
            return token.content.encode() if keep_special or not token.special else b""
        piece = self._library.id_to_token(number)
        return b"" if piece is None else self._spell_piece(piece)

    @cached_property
    def _added(self) -> dict[int, Any]:
        return dict(self._library.get_added_tokens_decoder())


def build_byte_level(vocabulary: bytes, merges: bytes) -> bytes:
    """A tokenizer.json of GPT-2's kind from vocab.json and merges.txt, as MOSS ships them.

    Raises:
        ModelLoadError: the two are damaged or do not fit each other.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    try:
        pieces: dict[str, int] = json.loads(vocabulary)
        lines = [line for line in merges.decode("utf-8").split("\n") if line and not line.startswith("#version")]
        pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
        library: Any = Tokenizer(models.BPE(vocab=pieces, merges=pairs))
    except Exception as wrong:  # the library has no class of its own for this
        reason = str(wrong).strip().splitlines()[0]
        raise ModelLoadError(f"vocab.json and merges.txt do not fit each other ({reason}); fetch both again") from wrong
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    text: str = library.to_str()
    return text.encode()


def _speller(content: Mapping[str, Any]) -> Callable[[str], bytes]:
    """How one piece is turned into bytes, from what the file says of decoding.

    Raises:
        ModelLoadError: pieces of this kind do not have bytes of their own.
    """
    kinds = _decoder_kinds(content.get("decoder"))
    if "ByteLevel" in kinds:
        return _spell_printable
    if {"Metaspace", "ByteFallback", "Replace"} & set(kinds):
        return _spell_marked
    raise ModelLoadError(
        f"tokenizer.json joins pieces by {', '.join(kinds) or 'nothing'}; wanted byte-level or SentencePiece pieces, "
        "as language models have them"
    )


def _decoder_kinds(decoder: Any) -> list[str]:
    if not isinstance(decoder, Mapping):
        return []
    if decoder.get("type") == "Sequence":
        return [kind for inner in decoder.get("decoders", ()) for kind in _decoder_kinds(inner)]
    return [str(decoder.get("type"))]


def _spell_printable(piece: str) -> bytes:
    return bytes_of_printable(piece)


def _spell_marked(piece: str) -> bytes:
    if found := BYTE_PIECE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace(SPACE_MARK, " ").encode()
