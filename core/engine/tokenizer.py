"""What every tokenizer of the engine can do, and text given out as ids come.

A vocabulary may come from a GGUF file, from our own low-bit file or from a checkpoint's folder; the rest of the engine
sees only this protocol. Nothing here knows how a text is cut.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import Protocol

__all__ = ["BytesDecoder", "IncrementalDecoder", "Tokenizer", "without_surrogates"]


class BytesDecoder(Protocol):
    """Turns ids into bytes, which may end inside a character."""

    def decode_bytes(self, ids: Iterable[int], *, keep_special: bool = False) -> bytes:
        """The bytes that the ids stand for, control tokens left out unless kept."""


class Tokenizer(BytesDecoder, Protocol):
    """Cuts a text into ids and joins ids into a text. Never adds a token that the text does not call for."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to one less than this."""

    @property
    def bos_id(self) -> int | None:
        """The token that opens a text, where the model has one."""

    @property
    def eos_id(self) -> int | None:
        """The token that ends an answer, where the model has one."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of control tokens by the text that calls for them."""

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text; what looks like a control token is plain text unless ``parse_special``."""

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """The text of the ids, with U+FFFD for bytes that are no UTF-8."""

    def to_bytes(self) -> bytes:
        """All that is needed to make the same tokenizer again, for keeping inside a model file."""


class IncrementalDecoder:
    """Collects the ids of one answer and gives out the text they add, never half a character.

    Bytes are decoded rather than texts, so an id costs the same however long the answer grows. An answer goes on from
    a prompt, so the space of its first word is shown.
    """

    def __init__(self, tokenizer: BytesDecoder) -> None:
        self._tokenizer = tokenizer
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> str:
        """The whole characters that became certain with this id."""
        return self._characters.decode(self._tokenizer.decode_bytes([token_id]))

    def flush(self) -> str:
        """What is left when no more ids come; a character cut in half shows as U+FFFD."""
        rest = self._characters.decode(b"", final=True)
        self._characters.reset()
        return rest


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for halves of characters, which no UTF-8 can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
