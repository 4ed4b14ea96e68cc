"""Turn token ids into text as they come, giving out only whole characters.

A Chinese character is often three byte tokens; a decoder shows half of one as U+FFFD. Nothing here knows a tokenizer:
it is handed the function that decodes a list of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["TextAssembler"]

UNFINISHED = "\ufffd"
TAIL_TOKENS = 8


class TextAssembler:
    """Collects the ids of one answer and gives out the text they add.

    Ids are decoded together with the few before them, since many tokenizers drop the space of a first word.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt_ids: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(prompt_ids[-TAIL_TOKENS:])
        self._context_start, self._context_end = 0, len(self._ids)
        self._given_chars = 0

    def add(self, token_id: int) -> str:
        """The whole characters that became certain with this id."""
        self._ids.append(token_id)
        text = self._pending()
        whole = text.rstrip(UNFINISHED)
        piece, self._given_chars = whole[self._given_chars :], max(self._given_chars, len(whole))
        if text and len(whole) == len(text):
            self._context_start, self._context_end = self._context_end, len(self._ids)
            self._given_chars = 0
        return piece

    def flush(self) -> str:
        """What is left when no more ids come; a character cut in half shows as U+FFFD."""
        piece = self._pending()[self._given_chars :]
        self._context_start = self._context_end = len(self._ids)
        self._given_chars = 0
        return piece

    def _pending(self) -> str:
        context = self._decode(self._ids[self._context_start : self._context_end])
        return self._decode(self._ids[self._context_start :])[len(context) :]
