"""The tokenizer of SentencePiece vocabularies: merges by score, or the best path, with unknown text spelled in bytes.

Gives the ids that the sentencepiece library gives. A text that merely looks like a control token stays text. Nothing
here adds the tokens that open and close a text: which are wanted is the prompt's matter.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np

from core.engine.piece_models import BestPathModel, Cutter, MergeModel, PieceFinder
from core.engine.piece_normaliser import SPACE_MARK, PieceNormaliser
from core.engine.piece_vocabulary import PieceKind, PieceVocabulary
from core.engine.tokenizer import without_surrogates
from core.errors import ModelLoadError

__all__ = ["PieceTokenizer"]

UNKNOWN_SURFACE = " \u2047 "
DERIVED = ("_ids", "_byte_ids", "_user_ids", "_cutter", "_normaliser", "_special_finder", "special_tokens")


class PieceTokenizer:
    """Cuts texts into the pieces of a vocabulary, and joins them again.

    Attributes:
        bos_id, eos_id, pad_id, unk_id: ids of the tokens for these ends; None where the vocabulary has none.
    """

    def __init__(self, vocabulary: PieceVocabulary) -> None:
        self._rules, self._charsmap = vocabulary.rules, vocabulary.charsmap
        self._pieces = vocabulary.pieces
        self._scores = array("f", vocabulary.scores.astype(np.float32).tobytes())
        self._kinds = bytearray(vocabulary.kinds.tobytes())
        self._surfaces: dict[int, bytes] = {}
        self.bos_id, self.eos_id = self._rules.bos_id, self._rules.eos_id
        self.pad_id, self.unk_id = self._rules.pad_id, self._rules.unk_id
        if self._rules.byte_fallback and len(self._byte_ids) != 256:
            raise ModelLoadError(f"the tokenizer has {len(self._byte_ids)} of the 256 byte pieces; give another file")

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        return len(self._pieces)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of the control pieces by their text."""
        return MappingProxyType({self._pieces[number]: number for number in self._of_kind(PieceKind.CONTROL)})

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``.

        The space that some vocabularies put in front of a text is put there only, never after a control token.
        """
        text = without_surrogates(text)
        if not parse_special:
            return self._encode_plain(text, is_start=True)
        ids: list[int] = []
        for position, stretch in enumerate(self._special_finder.split(text)):
            if isinstance(stretch, int):
                ids.append(stretch)
            else:
                ids += self._encode_plain(stretch, is_start=position == 0)
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8 and without the space put in front."""
        numbers = list(ids)
        text = self.decode_bytes(numbers, keep_special=keep_special).decode("utf-8", "replace")
        first = next((number for number in numbers if self._surface(number, keep_special)), None)
        if first is None or not self._pieces[first].startswith(SPACE_MARK):
            return text
        if self._rules.remove_extra_whitespaces:
            return text.lstrip(" ")
        return text[1:] if self._rules.add_space_prefix else text

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control pieces left out unless kept.

        An id beyond the vocabulary, which a padded embedding table allows, stands for nothing.
        """
        return b"".join([self._surface(number, keep_special) for number in ids])

    def insert(self, piece: str, score: float, kind: PieceKind = PieceKind.NORMAL) -> int:
        """Add a piece to the vocabulary; its id comes back.

        Raises:
            ModelLoadError: the piece is empty, or is there already.
        """
        if not piece or piece in self._ids or piece in self.special_tokens:
            raise ModelLoadError(f"the piece {piece!r} is empty or in the vocabulary already; give another")
        self._pieces = [*self._pieces, piece]
        self._scores.append(score)
        self._kinds.append(kind)
        for name in DERIVED:
            self.__dict__.pop(name, None)
        return len(self._pieces) - 1

    def to_bytes(self) -> bytes:
        """The vocabulary and its rules, for ``from_bytes``."""
        scores, kinds = np.array(self._scores, np.float32), np.frombuffer(bytes(self._kinds), np.uint8)
        return PieceVocabulary(self._pieces, scores, kinds, self._rules, self._charsmap).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> PieceTokenizer:
        """The tokenizer that ``to_bytes`` wrote.

        Raises:
            ModelLoadError: the data is something else, of another version, or damaged.
        """
        return cls(PieceVocabulary.from_bytes(data))

    @classmethod
    def from_sentencepiece(cls, data: bytes) -> PieceTokenizer:
        """The tokenizer of a sentencepiece ``.model`` file; see ``PieceVocabulary.from_sentencepiece``."""
        return cls(PieceVocabulary.from_sentencepiece(data))

    def _encode_plain(self, text: str, *, is_start: bool) -> list[int]:
        ids: list[int] = []
        was_unknown = False
        for unit in self._cutter.cut(self._normaliser.apply(text, is_start=is_start)):
            if isinstance(unit, int):
                ids.append(unit)
                was_unknown = False
            elif self._rules.byte_fallback:
                ids += [self._byte_ids[byte] for byte in unit.encode()]
            elif not was_unknown and self.unk_id is not None:
                ids.append(self.unk_id)  # one for a whole run
                was_unknown = True
        return ids

    def _surface(self, number: int, keep_special: bool) -> bytes:
        surface = self._surfaces.get(number)
        if surface is None:
            surface = self._surfaces[number] = self._spell(number)
        if not surface and keep_special and 0 <= number < len(self._pieces):
            return self._pieces[number].encode()
        return surface

    def _spell(self, number: int) -> bytes:
        kind = self._kinds[number] if 0 <= number < len(self._pieces) else PieceKind.CONTROL
        if kind == PieceKind.CONTROL:
            return b""
        if kind == PieceKind.UNKNOWN:
            return UNKNOWN_SURFACE.encode()
        if kind == PieceKind.BYTE:
            return bytes([int(self._pieces[number][3:-1], 16)])
        return self._pieces[number].replace(SPACE_MARK, " ").encode()

    def _of_kind(self, *kinds: PieceKind) -> list[int]:
        return np.flatnonzero(np.isin(np.frombuffer(bytes(self._kinds), np.uint8), kinds)).tolist()

    @cached_property
    def _ids(self) -> dict[str, int]:
        """What a text can be cut into: neither control tokens nor bytes, which would be found by their names."""
        ids = dict(zip(self._pieces, range(len(self._pieces)), strict=True))
        for number in self._of_kind(PieceKind.UNKNOWN, PieceKind.CONTROL, PieceKind.BYTE):
            if ids.get(self._pieces[number]) == number:
                del ids[self._pieces[number]]
        ids.pop("", None)
        return ids

    @cached_property
    def _byte_ids(self) -> dict[int, int]:
        try:
            return {int(self._pieces[number][3:-1], 16): number for number in self._of_kind(PieceKind.BYTE)}
        except ValueError as wrong:
            raise ModelLoadError(
                f"a byte piece of the tokenizer has a strange name ({wrong}); fetch it again"
            ) from wrong

    @cached_property
    def _user_ids(self) -> dict[str, int]:
        return {self._pieces[number]: number for number in self._of_kind(PieceKind.USER) if self._pieces[number]}

    @cached_property
    def _cutter(self) -> Cutter:
        unused = self._of_kind(PieceKind.UNUSED)
        if self._rules.model == "bpe":
            return MergeModel(self._ids, self._scores, user=self._user_ids, unused=unused)
        normal = self._of_kind(PieceKind.NORMAL)
        return BestPathModel(self._ids, self._scores, normal=normal, user=self._user_ids, unused=unused)

    @cached_property
    def _normaliser(self) -> PieceNormaliser:
        return PieceNormaliser(
            add_space_prefix=self._rules.add_space_prefix,
            remove_extra_whitespaces=self._rules.remove_extra_whitespaces,
            charsmap=self._charsmap,
            user_pieces=self._user_ids,
        )

    @cached_property
    def _special_finder(self) -> PieceFinder:
        return PieceFinder({piece: number for piece, number in self.special_tokens.items() if piece})
