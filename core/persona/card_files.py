"""Character cards as files: the JSON that role-play programs exchange, alone or inside a PNG.

Versions 2 and 3 of the format are read, and the flat first one; what is written is version 2, or 3 where the card came
so. Fields that mean nothing here are written back as they were, and so are texts that were read and not changed.
``{{char}}`` and ``{{user}}`` stay in the card until something is said (``spoken_text``). Nothing here opens a file.
Source: github.com/malfoyslastname/character-card-spec-v2, github.com/kwaroran/character-card-spec-v3.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from core.persona.card import BadCard, Card, Line, Origin
from core.persona.card_fields import (
    lines_of,
    number_of,
    packed_lines,
    packed_relations,
    relations_of,
    text_of,
    texts_of,
)
from core.persona.png_text import SIGNATURE, BadPng, plain_png, png_texts, png_with_texts

__all__ = ["MOST_BYTES", "read_card", "spoken_text", "write_card_json", "write_card_png"]

MOST_BYTES = 10 * 1024 * 1024
# Far more than any card has, and far less than Python can write again.
MOST_LEVELS = 100
OURS = "novelscope"
V2 = {"spec": "chara_card_v2", "spec_version": "2.0"}
V2_KEYWORD, V3_KEYWORD = "chara", "ccv3"
V1_FIELDS = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
DEFAULTS: dict[str, Any] = {
    "creator_notes": "",
    "system_prompt": "",
    "post_history_instructions": "",
    "alternate_greetings": [],
    "tags": [],
    "creator": "",
    "character_version": "",
}
OUR_FIELDS = (
    "aliases",
    "about",
    "knows",
    "wants",
    "manner",
    "sayings",
    "relations",
    "known_until",
    "book_id",
    "origin",
)
CHAR, USER = r"\{\{\s*char\s*\}\}|<BOT>", r"\{\{\s*user\s*\}\}|<USER>"
PLACEHOLDER = re.compile(f"(?P<char>{CHAR})|{USER}", re.IGNORECASE)
# Who speaks in an example: the character, by placeholder or name, or anybody else.
OTHERS = r"\{\{[^{}\n]*\}\}|<USER>|[^\s:：]{1,20}(?: [^\s:：]{1,20}){0,2}"
START = re.compile(r"\s*<START>", re.IGNORECASE)

Split = Callable[[str], list[str]]
Join = Callable[[Sequence[str]], str]


def read_card(data: bytes) -> Card:
    """The character of a file, JSON or PNG.

    Raises:
        BadCard: the file is too large, damaged, or holds no character.
    """
    return _card(_parsed(_json_of_png(_bounded(data)) if data.startswith(SIGNATURE) else data))


def write_card_json(card: Card) -> bytes:
    """The card as JSON of version 2, or 3 where it was read so.

    Raises:
        BadCard: the card holds what JSON cannot, or is too large to be read again.
    """
    return _written(_document(card))


def write_card_png(card: Card, png: bytes | None = None) -> bytes:
    """A picture with the card in it.

    Args:
        png: the picture; None makes a plain one. A card that it holds already is replaced.

    Raises:
        BadCard: the picture is no whole PNG, or the card cannot be written.
    """
    document = _document(card)
    # A program that knows version 2 alone finds the same character.
    texts = {V2_KEYWORD: document | V2}
    if document["spec"] != V2["spec"]:
        texts[V3_KEYWORD] = document
    encoded = {keyword: base64.b64encode(_written(text)) for keyword, text in texts.items()}
    try:
        made = png_with_texts(plain_png() if png is None else png, encoded, without=(V2_KEYWORD, V3_KEYWORD))
    except BadPng as wrong:
        raise BadCard(str(wrong)) from wrong
    return _bounded(made)


def spoken_text(text: str, char: str, user: str) -> str:
    """The text with the names of the two who talk in place of ``{{char}}`` and ``{{user}}``."""
    return PLACEHOLDER.sub(lambda found: char if found["char"] else user, text)


def _json_of_png(png: bytes) -> bytes:
    try:
        texts = png_texts(png, (V2_KEYWORD, V3_KEYWORD))
    except BadPng as wrong:
        raise BadCard(str(wrong)) from wrong
    encoded = texts.get(V3_KEYWORD, texts.get(V2_KEYWORD))
    if encoded is None:
        raise BadCard("the PNG holds no character; use one that was exported as a character card")
    try:
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as wrong:
        raise BadCard(f"the character in the PNG is no base64 ({wrong}); export it again") from wrong


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(_bounded(data), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as wrong:
        raise BadCard(f"the card is no JSON ({_reason(wrong)}); export it again") from wrong
    if not isinstance(found, dict):
        raise BadCard(f"the card is a JSON {type(found).__name__}, wanted an object")
    level: list[Any] = [found]
    for _ in range(MOST_LEVELS):
        level = [part for whole in level if isinstance(whole, dict | list) for part in _parts(whole)]
        if not level:
            return found
    raise BadCard(f"the card is nested more than {MOST_LEVELS} levels deep; export it again")


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is no number")
    return value


def _parts(whole: dict[str, Any] | list[Any]) -> Sequence[Any]:
    return list(whole.values()) if isinstance(whole, dict) else whole


def _reason(wrong: Exception) -> str:
    return "nested too deeply" if isinstance(wrong, RecursionError) else str(wrong)


def _card(document: dict[str, Any]) -> Card:
    """The character of a parsed file; ``other`` gets the document without what the character has a place for."""
    text_of(document, "spec")
    flat = "data" not in document and not document.get("spec")
    data = {name: document[name] for name in V1_FIELDS if name in document} if flat else document.get("data")
    if not isinstance(data, dict):
        raise BadCard("the card's data is missing or no object; export it again")
    extensions = data.get("extensions") or {}
    ours = (extensions.get(OURS) or {}) if isinstance(extensions, dict) else None
    if not isinstance(ours, dict):
        raise BadCard("the card's extensions are no object; export it again")
    if not (name := text_of(data, "name")).strip():
        raise BadCard("the card names no character; give it a name")
    if (origin := text_of(ours, "origin") or "file") not in get_args(Origin):
        raise BadCard(f"the card's origin is {origin!r}, wanted one of {', '.join(get_args(Origin))}")
    card = Card(
        name=name,
        aliases=texts_of(ours, "aliases"),
        about=_lines(data, "description", ours, "about", _split, _join),
        knows=lines_of(ours, "knows"),
        wants=lines_of(ours, "wants"),
        manner=_lines(data, "personality", ours, "manner", _split, _join),
        sayings=_lines(data, "mes_example", ours, "sayings", _sayings_of(name), _examples),
        relations=relations_of(ours, "relations"),
        known_until=number_of(ours, "known_until"),
        book_id=None if ours.get("book_id") is None else text_of(ours, "book_id"),
        origin=cast(Origin, origin),
        greeting=text_of(data, "first_mes"),
        scenario=text_of(data, "scenario"),
    )
    top = {key: value for key, value in document.items() if key != "data" and not (flat and key in V1_FIELDS)}
    left = {key: value for key, value in extensions.items() if key != OURS}
    if unknown := {key: value for key, value in ours.items() if key not in OUR_FIELDS}:
        left[OURS] = unknown
    kept = {key: value for key, value in data.items() if not _is_told(key, value)}
    # What writing puts there by itself need not be kept.
    written = _document(card)
    other = _beyond(top, written)
    if rest := _beyond(kept, written["data"]) | ({"extensions": left} if left else {}):
        other["data"] = rest
    return replace(card, other=other)


def _is_told(key: str, value: Any) -> bool:
    """Whether the character has its own place for all that this field of the file says."""
    return key in ("name", "first_mes", "scenario", "extensions") or (key in V1_FIELDS and value is None)


def _beyond(found: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """What was found and is not written anyway."""
    return {key: value for key, value in found.items() if key not in written or not _same(value, written[key])}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _document(card: Card) -> dict[str, Any]:
    """The whole JSON object of a card."""
    document: dict[str, Any] = V2 | dict(card.other)
    data = DEFAULTS | _object(document.pop("data", {}))
    data |= {"name": card.name, "first_mes": card.greeting, "scenario": card.scenario}
    ours: dict[str, Any] = {}
    for field, lines, name, split, join in (
        ("description", card.about, "about", _split, _join),
        ("personality", card.manner, "manner", _split, _join),
        ("mes_example", card.sayings, "sayings", _sayings_of(card.name), _examples),
    ):
        text = join([line.text for line in lines])
        found = data.get(field)
        # A text that was read and still says the same keeps its blank lines, and what others say in it.
        data[field] = found if isinstance(found, str) and split(found) == split(text) else text
        if tuple(map(Line, split(text))) != lines:
            ours[name] = packed_lines(lines)
    ours |= {
        "aliases": list(card.aliases),
        "knows": packed_lines(card.knows),
        "wants": packed_lines(card.wants),
        "relations": packed_relations(card.relations),
        "known_until": card.known_until,
        "book_id": card.book_id,
        "origin": None if card.origin == "file" else card.origin,
    }
    extensions = _object(data.get("extensions", {}))
    ours = _object(extensions.get(OURS, {})) | {key: value for key, value in ours.items() if value not in (None, [])}
    data["extensions"] = extensions | ({OURS: ours} if ours else {})
    # Some programs repeat the first version's fields outside.
    document |= {name: data[name] for name in V1_FIELDS if name in document}
    return document | {"data": data}


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise BadCard("what the card keeps of its file is no object")
    return dict(found)


def _written(document: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as wrong:
        raise BadCard(f"the card holds what JSON cannot ({_reason(wrong)})") from wrong
    # Half a character, which UTF-8 has no bytes for, becomes JSON's own escape.
    return _bounded(text.encode("utf-8", "backslashreplace"))


def _bounded(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise BadCard(f"the card has more than {MOST_BYTES // 2**20} MB; use a smaller one, or a smaller picture")
    return data


def _lines(
    data: Mapping[str, Any], field: str, ours: Mapping[str, Any], name: str, split: Split, join: Join
) -> tuple[Line, ...]:
    """The lines of a text that all programs share, with our passages where it still says what we wrote."""
    texts = split(text_of(data, field))
    lines = lines_of(ours, name)
    if ours.get(name) is not None and split(join([line.text for line in lines])) == texts:
        return lines
    known = {line.text: line for line in lines}
    return tuple(known.get(text, Line(text)) for text in texts)


def _split(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _join(texts: Sequence[str]) -> str:
    return "\n".join(texts)


def _examples(texts: Sequence[str]) -> str:
    return "\n".join(f"<START>\n{{{{char}}}}: {text}" for text in texts)


def _sayings_of(name: str) -> Split:
    """What finds the character's own words in examples of a conversation."""
    label = re.compile(rf"\s*(?:(?P<ours>{CHAR}|{re.escape(name)})|{OTHERS})\s*[:：]", re.IGNORECASE)

    def split(text: str) -> list[str]:
        said: list[list[str]] = []
        is_ours = False
        for line in text.splitlines():
            if begun := START.match(line):
                is_ours, line = False, line[begun.end() :]
            if labelled := label.match(line):
                is_ours, line = labelled["ours"] is not None, line[labelled.end() :]
                if is_ours:
                    said.append([])
            if is_ours:
                said[-1].append(line.strip())
        return [words for lines in said if (words := "\n".join(lines).strip())]

    return split
