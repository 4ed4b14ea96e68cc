"""The tokenizer that a GGUF file carries, and what it says of prompts.

Nothing here cuts a text: the lists of the file are handed to the tokenizer of their kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.engine.bytelevel_tokenizer import MAGIC as BYTE_LEVEL_MAGIC
from core.engine.bytelevel_tokenizer import ByteLevelRules, ByteLevelTokenizer
from core.engine.gguf_file import GGUFFile
from core.engine.piece_normaliser import SPACE_MARK
from core.engine.piece_tokenizer import PieceTokenizer
from core.engine.piece_vocabulary import PieceKind, PieceRules, PieceVocabulary
from core.engine.tokenizer import Tokenizer
from core.errors import ModelLoadError

__all__ = ["PromptHabits", "read_prompt_habits", "read_vocabulary", "restore_vocabulary"]

PREFIX = "tokenizer.ggml."
PIECE_MODELS = {"llama": "bpe", "t5": "unigram"}
BYTE_LEVEL = "gpt2"
ID_KEYS = {
    "bos_id": "bos_token_id",
    "eos_id": "eos_token_id",
    "pad_id": "padding_token_id",
    "unk_id": "unknown_token_id",
}
NFC_SPLITS = ("qwen2",)


@dataclass(frozen=True, slots=True)
class PromptHabits:
    """What surrounds a prompt.

    Attributes:
        chat_template: in Jinja; None where the model is no chat model.
        adds_bos, adds_eos: whether the opening and the closing token belong around every text.
    """

    chat_template: str | None
    adds_bos: bool
    adds_eos: bool


def read_prompt_habits(file: GGUFFile) -> PromptHabits:
    """The chat template of a file, and the tokens it wants around a text.

    Where a file does not say, pieces begin with the opening token and byte-level vocabularies do not, as in llama.cpp.
    """
    template = file.values.get("tokenizer.chat_template")
    adds_bos = file.values.get(PREFIX + "add_bos_token", file.values.get(PREFIX + "model") == "llama")
    adds_eos = file.values.get(PREFIX + "add_eos_token", file.values.get(PREFIX + "model") == "t5")
    return PromptHabits(template if isinstance(template, str) else None, bool(adds_bos), bool(adds_eos))


def read_vocabulary(file: GGUFFile) -> Tokenizer:
    """The tokenizer of a file.

    Raises:
        ModelLoadError: the file has none, one of a kind that is not known, or one that contradicts itself.
    """
    model = file.values.get(PREFIX + "model")
    if model not in (*PIECE_MODELS, BYTE_LEVEL):
        raise ModelLoadError(
            f"{file.path}: the tokenizer is {model!r}; known kinds are {', '.join((*PIECE_MODELS, BYTE_LEVEL))}; "
            "give the folder of the original checkpoint"
        )
    try:
        return _byte_level(file) if model == BYTE_LEVEL else _pieces(file, PIECE_MODELS[model])
    except ModelLoadError as wrong:
        if str(file.path) in str(wrong):
            raise
        raise ModelLoadError(f"{file.path}: {wrong}") from wrong


def restore_vocabulary(data: bytes) -> Tokenizer:
    """The tokenizer whose ``to_bytes`` this is.

    Raises:
        ModelLoadError: the data is something else, of another version, or damaged.
    """
    is_byte_level = data.startswith(BYTE_LEVEL_MAGIC)
    return ByteLevelTokenizer.from_bytes(data) if is_byte_level else PieceTokenizer.from_bytes(data)


def _pieces(file: GGUFFile, model: str) -> PieceTokenizer:
    pieces: list[str] = file.list(PREFIX + "tokens")
    ids = _named_ids(file)
    kinds = _kinds(file, pieces, ids)
    # The file spells the spaces in pieces of the user plainly, since llama.cpp finds them before it makes marks.
    for number in np.flatnonzero(kinds == PieceKind.USER).tolist():
        pieces[number] = pieces[number].replace(" ", SPACE_MARK)
    charsmap = PREFIX + "precompiled_charsmap"
    rules = PieceRules(
        model=model,
        byte_fallback=int((kinds == PieceKind.BYTE).sum()) == 256,
        add_space_prefix=bool(file.values.get(PREFIX + "add_space_prefix", True)),
        remove_extra_whitespaces=bool(file.values.get(PREFIX + "remove_extra_whitespaces", False)),
        **ids,
    )
    scores = file.numbers(PREFIX + "scores").astype(np.float32)
    packed = file.numbers(charsmap).astype(np.uint8).tobytes() if charsmap in file.lists else b""
    return PieceTokenizer(PieceVocabulary(pieces, scores, kinds, rules, packed))


def _byte_level(file: GGUFFile) -> ByteLevelTokenizer:
    pieces = file.list(PREFIX + "tokens")
    ids = _named_ids(file)
    kinds = _kinds(file, pieces, ids)
    split = file.values.get(PREFIX + "pre", "default")
    return ByteLevelTokenizer(
        pieces,
        file.list(PREFIX + "merges"),
        rules=ByteLevelRules(split=split, normal_form="NFC" if split in NFC_SPLITS else "", **ids),
        control=np.flatnonzero((kinds == PieceKind.CONTROL) | (kinds == PieceKind.UNKNOWN)).tolist(),
        user=np.flatnonzero(kinds == PieceKind.USER).tolist(),
    )


def _named_ids(file: GGUFFile) -> dict[str, Any]:
    return {ours: file.values.get(PREFIX + theirs) for ours, theirs in ID_KEYS.items()}


def _kinds(file: GGUFFile, pieces: list[str], ids: dict[str, Any]) -> NDArray[np.uint8]:
    """The kinds of the pieces; from their names where the file does not tell, as old ones do not."""
    if PREFIX + "token_type" in file.lists:
        kinds = file.numbers(PREFIX + "token_type")
        if len(kinds) != len(pieces) or kinds.min() < 1 or kinds.max() > max(PieceKind):
            raise ModelLoadError(f"there are {len(pieces)} pieces and {len(kinds)} kinds, or kinds unheard of")
        return kinds.astype(np.uint8)
    kinds = np.full(len(pieces), PieceKind.NORMAL, np.uint8)
    for number, piece in enumerate(pieces):
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            kinds[number] = PieceKind.BYTE
    for name, number in ids.items():
        if number is not None and 0 <= number < len(pieces):
            kinds[number] = PieceKind.UNKNOWN if name == "unk_id" else PieceKind.CONTROL
    return kinds
