"""The vocabulary of first-layout GLM-4: lines of base64 byte strings with their ranks, read by the tiktoken library.

The file is called tokenizer.model like a SentencePiece file, so it is told by its content. Nothing here knows a prompt
format.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from core.engine.bytelevel_tokenizer import LLAMA3
from core.engine.tokenizer import without_surrogates
from core.errors import MissingExtra, ModelLoadError

__all__ = ["TiktokenTokenizer", "is_rank_file"]

FIRST_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


class TiktokenTokenizer:
    """Cuts texts as the tiktoken library does.

    Attributes:
        bos_id, eos_id: tokens that open a text and end an answer; None where the checkpoint names none.
    """

    def __init__(self, data: bytes, *, added: Mapping[str, int], usual: Sequence[str], eos: str) -> None:
        """
        Args:
            data: of the file.
            added: ids of control tokens by their text.
            usual: control tokens that follow the byte strings where ``added`` names none.
            eos: text of the token that ends an answer.

        Raises:
            ModelLoadError: the data is no such file.
        """
        try:
            import tiktoken
        except ModuleNotFoundError as missing:
            raise MissingExtra("this checkpoint's tokenizer needs tiktoken: pip install tiktoken") from missing
        ranks = _read_ranks(data)
        behind = max(ranks.values()) + 1
        self._data, self._added = data, dict(added) or {text: behind + at for at, text in enumerate(usual)}
        self._texts = {number: text.encode() for text, number in self._added.items()}
        self._pieces = {number: piece for piece, number in ranks.items()}
        self._library: Any = tiktoken.Encoding(
            name="glm4", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=self._added
        )
        self.bos_id, self.eos_id = None, self._added.get(eos)

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""
        return int(self._library.n_vocab)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of control tokens by their text."""
        return MappingProxyType(self._added)

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``."""
        allowed: Any = "all" if parse_special else set()
        ids: list[int] = self._library.encode(without_surrogates(text), allowed_special=allowed, disallowed_special=())
        return ids

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8."""
        return self.decode_bytes(ids, keep_special=keep_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control tokens left out unless kept."""
        controls = self._texts if keep_special else {}
        return b"".join([self._pieces.get(number) or controls.get(number, b"") for number in ids])

    def to_bytes(self) -> bytes:
        """The file itself; what is added to it stands in the files beside it."""
        return self._data


def is_rank_file(data: bytes) -> bool:
    """Whether the content is a list of byte strings with ranks."""
    return FIRST_LINE.match(data) is not None


def _read_ranks(data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        piece, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as wrong:
            raise ModelLoadError(
                f"line {number} of tokenizer.model is no byte string with its rank ({wrong}); fetch the file again"
            ) from wrong
    if len(set(ranks.values())) != len(ranks) or not all(bytes([byte]) in ranks for byte in range(256)):
        raise ModelLoadError("tokenizer.model gives a rank twice or lacks a byte; fetch the file again")
    return ranks
