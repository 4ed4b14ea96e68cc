"""What a card keeps in a character file beyond the fields that all programs share: passages, relations, bounds.

It lies under ``data.extensions.novelscope`` of the file, as JSON. Nothing here knows the rest of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.data.text import Span
from core.persona.card import BadCard, Line, Relation, Source

__all__ = [
    "line_of",
    "lines_of",
    "number_of",
    "packed_lines",
    "packed_relations",
    "relations_of",
    "text_of",
    "texts_of",
]


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """A field that holds a text; "" where it is missing or null.

    Raises:
        BadCard: it holds something else.
    """
    found = fields.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise _wrong(name, "a text", found)
    return found


def number_of(fields: Mapping[str, Any], name: str) -> int | None:
    """A field that holds a whole number; None where it is missing or null.

    Raises:
        BadCard: it holds something else.
    """
    found = fields.get(name)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise _wrong(name, "a whole number", found)
    return found


def texts_of(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A field that holds a list of texts.

    Raises:
        BadCard: it holds something else.
    """
    found = _list(fields, name)
    for item in found:
        if not isinstance(item, str):
            raise _wrong(name, "texts only", item)
    return tuple(found)


def lines_of(fields: Mapping[str, Any], name: str) -> tuple[Line, ...]:
    """A field that holds a list of lines, as ``packed_lines`` wrote them.

    Raises:
        BadCard: it holds something else.
    """
    return tuple(line_of(item, name) for item in _list(fields, name))


def relations_of(fields: Mapping[str, Any], name: str) -> tuple[Relation, ...]:
    """A field that holds a list of relations, as ``packed_relations`` wrote them.

    Raises:
        BadCard: it holds something else.
    """
    found = []
    for item in _list(fields, name):
        line = line_of(item, name)
        if not isinstance(person := item.get("person"), str):
            raise _wrong(f"{name}.person", "a text", person)
        found.append(Relation(person, line))
    return tuple(found)


def line_of(item: Any, name: str) -> Line:
    """One line; a bare text is a line without a source.

    Raises:
        BadCard: it is neither, or its source is not whole.
    """
    if isinstance(item, str) and name != "relations":
        return Line(item)
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise _wrong(name, "objects with a text", item)
    if (source := item.get("source")) is None:
        return Line(item["text"])
    if not isinstance(source, dict):
        raise _wrong(f"{name}.source", "an object", source)
    chapter, start, end = (number_of(source, part) for part in ("chapter", "start", "end"))
    if chapter is None or start is None or end is None or not 0 <= start <= end:
        raise BadCard(f"the card's {name}.source names no passage; wanted chapter, start and end")
    return Line(item["text"], Source(chapter, Span(start, end), text_of(source, "quote")))


def packed_lines(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Lines as JSON."""
    return [_packed(line) for line in lines]


def packed_relations(relations: Sequence[Relation]) -> list[dict[str, Any]]:
    """Relations as JSON."""
    return [{"person": relation.person, **_packed(relation.line)} for relation in relations]


def _packed(line: Line) -> dict[str, Any]:
    if (source := line.source) is None:
        return {"text": line.text}
    place = {"chapter": source.chapter, "start": source.span.start, "end": source.span.end, "quote": source.quote}
    return {"text": line.text, "source": place}


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise _wrong(name, "a list", found)
    return found


def _wrong(name: str, wanted: str, found: Any) -> BadCard:
    return BadCard(f"the card's {name} holds {type(found).__name__}, wanted {wanted}")
