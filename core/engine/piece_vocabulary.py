"""A SentencePiece vocabulary as data, and its form inside a model file.

The form opens fast rather than being small: pieces are one text with a list of lengths, scores and kinds are arrays.
Nothing here cuts a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from importlib import import_module
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engine.piece_normaliser import SPACE_MARK
from core.engine.sealed import seal, unseal
from core.errors import MissingExtra, ModelLoadError

__all__ = ["PieceKind", "PieceRules", "PieceVocabulary"]

MAGIC, VERSION = b"nspieces", 1
MODELS = ("bpe", "unigram")
MAX_PIECE_CHARS = 65535
THEIR_MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


class PieceKind(IntEnum):
    """What a piece is for; the numbers of GGUF and of SentencePiece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceRules:
    """How texts are prepared and cut.

    Attributes:
        model: "bpe" merges by score, "unigram" takes the best path.
        byte_fallback: whether what has no piece is spelled in byte pieces, rather than being unknown.
    """

    model: str = "bpe"
    byte_fallback: bool = True
    add_space_prefix: bool = True
    remove_extra_whitespaces: bool = False
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    unk_id: int | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ModelLoadError(f"the tokenizer is of the model {self.model!r}; {' and '.join(MODELS)} can be read")


@dataclass(frozen=True, slots=True)
class PieceVocabulary:
    """Pieces by id, with their scores and kinds.

    Attributes:
        charsmap: a precompiled table of characters to be replaced; empty where texts are taken as they are.
    """

    pieces: list[str]
    scores: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    rules: PieceRules = field(default_factory=PieceRules)
    charsmap: bytes = b""

    def __post_init__(self) -> None:
        size = len(self.pieces)
        if not size or self.scores.shape != (size,) or self.kinds.shape != (size,):
            raise ModelLoadError(
                f"the tokenizer has {size} pieces, {self.scores.size} scores and {self.kinds.size} kinds; "
                "give a whole file"
            )
        if not np.isfinite(self.scores).all() or self.kinds.min() < 1 or self.kinds.max() > max(PieceKind):
            raise ModelLoadError("the tokenizer has scores that are no numbers, or kinds unheard of; fetch it again")
        rules = self.rules
        for number in (rules.bos_id, rules.eos_id, rules.pad_id, rules.unk_id):
            if number is not None and not 0 <= number < size:
                raise ModelLoadError(f"the tokenizer names the id {number}, but has {size} pieces; fetch it again")
        if not rules.byte_fallback and rules.unk_id is None:
            raise ModelLoadError("the tokenizer has no token for unknown text, nor all 256 bytes; give another file")

    def of_kind(self, *kinds: PieceKind) -> NDArray[np.int64]:
        """The ids of all pieces of these kinds, in order."""
        return np.flatnonzero(np.isin(self.kinds, kinds))

    def to_bytes(self) -> bytes:
        """The form that ``from_bytes`` reads."""
        lengths = np.array([len(piece) for piece in self.pieces])
        if lengths.max() > MAX_PIECE_CHARS:
            raise ModelLoadError(f"a piece has {lengths.max()} characters, and {MAX_PIECE_CHARS} is the most")
        text = "".join(self.pieces).encode()
        head = {**asdict(self.rules), "num_pieces": len(self.pieces), "text_bytes": len(text)}
        parts = [_packed_head(head), lengths.astype("<u2").tobytes(), self.scores.astype("<f4").tobytes()]
        body = b"".join([*parts, self.kinds.tobytes(), text, self.charsmap])
        return seal(MAGIC, VERSION, body)

    @classmethod
    def from_bytes(cls, data: bytes) -> PieceVocabulary:
        """The vocabulary that ``to_bytes`` wrote.

        Raises:
            ModelLoadError: the data is something else, of another version, or damaged.
        """
        body = unseal(data, MAGIC, VERSION, what="vocabulary of pieces")
        try:
            start = 4 + int.from_bytes(body[:4], "little")
            head: dict[str, Any] = json.loads(body[4:start])
            count, text_bytes = head.pop("num_pieces"), head.pop("text_bytes")
            lengths = np.frombuffer(body, "<u2", count, start)
            scores = np.frombuffer(body, "<f4", count, start + 2 * count)
            kinds = np.frombuffer(body, "u1", count, start + 6 * count)
            end = start + 7 * count + text_bytes
            text = body[start + 7 * count : end].decode()
            pieces = [text[a:b] for a, b in pairwise(accumulate(lengths.tolist(), initial=0))]
            return cls(pieces, scores, kinds, PieceRules(**head), body[end:])
        except (KeyError, TypeError, ValueError) as wrong:
            raise ModelLoadError(f"the vocabulary is damaged ({wrong}); fetch or convert it again") from wrong

    @classmethod
    def from_sentencepiece(cls, data: bytes) -> PieceVocabulary:
        """The vocabulary and the rules of a sentencepiece ``.model`` file.

        Raises:
            ModelLoadError: the bytes are no such file, or it asks for rules that are not followed here.
            MissingExtra: the sentencepiece package, whose description of the file is used, is not installed.
        """
        try:
            proto: Any = import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
            decode_error: Any = import_module("google.protobuf.message").DecodeError
        except ModuleNotFoundError as missing:
            raise MissingExtra(
                "reading a sentencepiece model needs two packages: pip install sentencepiece protobuf"
            ) from missing
        try:
            proto.ParseFromString(data)
        except decode_error as wrong:
            raise ModelLoadError("this is no sentencepiece model; fetch tokenizer.model again") from wrong
        trainer, normaliser = proto.trainer_spec, proto.normalizer_spec
        pieces = [entry.piece for entry in proto.pieces]
        kinds = [entry.type for entry in proto.pieces]
        user = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == PieceKind.USER]
        _refuse_strange_rules(trainer, normaliser, user)
        named = {piece: number for number, piece in enumerate(pieces) if kinds[number] == PieceKind.CONTROL}
        rules = PieceRules(
            model=THEIR_MODELS.get(trainer.model_type, str(trainer.model_type)),
            byte_fallback=trainer.byte_fallback,
            add_space_prefix=normaliser.add_dummy_prefix,
            remove_extra_whitespaces=normaliser.remove_extra_whitespaces,
            bos_id=named.get(trainer.bos_piece),
            eos_id=named.get(trainer.eos_piece),
            pad_id=named.get(trainer.pad_piece),
            unk_id=kinds.index(PieceKind.UNKNOWN) if PieceKind.UNKNOWN in kinds else None,
        )
        scores = np.array([entry.score for entry in proto.pieces], np.float32)
        return cls(pieces, scores, np.array(kinds, np.uint8), rules, normaliser.precompiled_charsmap)


def _packed_head(head: dict[str, Any]) -> bytes:
    packed = json.dumps(head).encode()
    return len(packed).to_bytes(4, "little") + packed


def _refuse_strange_rules(trainer: Any, normaliser: Any, user: Iterable[str]) -> None:
    if trainer.treat_whitespace_as_suffix or not normaliser.escape_whitespaces:
        raise ModelLoadError(
            f"the sentencepiece model does not write a space as {SPACE_MARK} before a word; give another model"
        )
    if normaliser.remove_extra_whitespaces and any("  " in f" {piece} " for piece in user):
        raise ModelLoadError(
            "the sentencepiece model removes extra spaces and has pieces of the user that begin or end with one; "
            "give another model"
        )
