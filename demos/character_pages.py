"""A character on the page, as HTML: the card with its sources, and a conversation; functions of values and strings.

Everything that comes from a book, a card or a model is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from core.persona.card import Card, Line
from core.persona.card_files import spoken_text

__all__ = ["card_page", "talk_page"]

Strings = Mapping[str, str]
PARTS = ("about", "knows", "wants", "manner", "sayings")


def card_page(card: Card, strings: Strings, *, reader_name: str) -> str:
    """The card; a line that rests on the book opens it there."""
    also = f"<span>{escape('、'.join(card.aliases))}</span>" if card.aliases else "<span></span>"
    known = ""
    if card.origin == "book":
        until = card.known_until
        text = strings["character_until"].format(chapter=until) if until else strings["character_whole"]
        known = f'<div class="ns-usage">{escape(text)}</div>'
    sections = []
    for part in PARTS:
        lines: Sequence[Line] = getattr(card, part)
        if lines:
            shown = "".join(_line(line, card, reader_name, is_said=part == "sayings") for line in lines)
            sections.append(f"<h4>{escape(_title(part, strings))}</h4><ul>{shown}</ul>")
    if card.relations:
        shown = "".join(_line(one.line, card, reader_name, before=f"{one.person}：") for one in card.relations)
        sections.append(f"<h4>{escape(strings['character_relations'])}</h4><ul>{shown}</ul>")
    head = f'<div class="ns-head">{escape(card.name)}{also}</div>'
    return f'<div class="ns-character">{head}{known}{"".join(sections)}</div>'


def talk_page(
    said: Iterable[tuple[str, str]], writing: str, status: str, note: str, strings: Strings, *, summary: str = ""
) -> str:
    """A conversation, newest last.

    Args:
        said: (speaker, text) of each turn.
        writing: speaker of the turn that is being written; empty when none is.
        note: HTML below it.
    """
    turns = list(said)
    if not turns and not status and not note:
        return f'<div class="ns-empty">{escape(strings["character_empty"])}</div>'
    sections = []
    if summary:
        sections.append(f'<div class="ns-muted">{escape(strings["character_earlier"].format(summary=summary))}</div>')
    for number, (speaker, text) in enumerate(turns):
        caret = '<span class="ns-caret"></span>' if writing and number == len(turns) - 1 else ""
        body = escape(text).replace("\n", "<br>")
        who = f'<div class="ns-q"><span>{escape(speaker)}</span></div>'
        sections.append(f'<section>{who}<div class="ns-a">{body}{caret}</div></section>')
    if status:
        sections.append(f'<div class="ns-status">{escape(status)}</div>')
    return f'<div class="ns-talk">{"".join(sections)}{note}</div>'


def _line(line: Line, card: Card, reader_name: str, *, is_said: bool = False, before: str = "") -> str:
    text = spoken_text(line.text, char=card.name, user=reader_name)
    text = f"“{text}”" if is_said else text
    source = line.source
    if source is None:
        return f"<li>{escape(before + text)}</li>"
    place = f'data-chapter="{source.chapter}" data-start="{source.span.start}" data-end="{source.span.end}"'
    return (
        f'<li>{escape(before + text)}<button type="button" class="ns-cite" {place} title="{escape(source.quote)}">'
        f"{source.chapter}</button></li>"
    )


def _title(part: str, strings: Strings) -> str:
    titles = {
        "about": strings["character_about"],
        "knows": strings["character_knows"],
        "wants": strings["character_wants"],
        "manner": strings["character_manner"],
        "sayings": strings["character_sayings"],
    }
    return titles[part]
