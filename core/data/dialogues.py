"""Turns and dialogues: the one form in which chat, retrieval chains and training pass conversations.

Nothing here knows a model's prompt format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import NovelscopeError

__all__ = ["ROLES", "BadDialogue", "Dialogue", "Turn", "read_dialogues", "write_dialogues"]

ROLES = ("system", "user", "assistant")


class BadDialogue(NovelscopeError, ValueError):
    """A dialogue does not have the form that novelscope reads."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said at once."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise BadDialogue(f"role is {self.role!r}, wanted one of {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise BadDialogue(f"content of a {self.role} turn is {type(self.content).__name__}, wanted a string")


Dialogue = Sequence[Turn]


def read_dialogues(path: Path) -> Iterator[tuple[Turn, ...]]:
    """Dialogues of a JSONL file, one ``{"messages": [{"role", "content"}, ...]}`` a line.

    Raises:
        BadDialogue: a line is not of that form; the message names the line.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                messages = json.loads(line)["messages"]
                yield tuple(Turn(message["role"], message["content"]) for message in messages)
            except (json.JSONDecodeError, KeyError, TypeError, BadDialogue) as wrong:
                raise BadDialogue(f"{path}, line {number}: {wrong}; wanted {{'messages': [...]}}") from wrong


def write_dialogues(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """Write dialogues as ``read_dialogues`` reads them."""
    with path.open("w", encoding="utf-8") as out:
        for dialogue in dialogues:
            messages = [{"role": turn.role, "content": turn.content} for turn in dialogue]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
