"""What handlers put on the page, as HTML: pure functions of values and strings.

Everything that comes from a book, a file name or a model is escaped here; a novel is a stranger's file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from core.data.text import Chapter, Span

__all__ = ["book_line", "chapter_page", "conversation", "evidence_cards", "notice"]

Strings = Mapping[str, str]


def conversation(turns: Sequence[Mapping[str, Any]], status: str, strings: Strings) -> str:
    """Questions and answers, newest last; citation numbers can be clicked."""
    if not turns:
        return f'<div class="ns-empty">{escape(strings["conversation_empty"])}</div>'
    return (
        '<div class="ns-talk">'
        + "".join(_turn(turn, status if turn is turns[-1] else "", strings) for turn in turns)
        + "</div>"
    )


def evidence_cards(
    passages: Sequence[Mapping[str, Any]],
    citations: Sequence[Mapping[str, Any]],
    coverage: tuple[int, int],
    strings: Strings,
) -> str:
    """One card a passage, best first, with the cited sentences marked; a click opens the book there."""
    if not passages:
        return f'<div class="ns-empty">{escape(strings["evidence_empty"])}</div>'
    done, total = coverage
    line = strings["coverage" if done else "coverage_none"].format(done=done, total=total)
    cards = "".join(_card(passage, citations) for passage in passages)
    return f'<div class="ns-head">{escape(strings["evidence"])}<span>{escape(line)}</span></div>{cards}'


def chapter_page(chapter: Chapter | None, text: str, cited: Span | None, strings: Strings, note: str = "") -> str:
    """A chapter set for reading, with one span marked; ``text`` is the whole novel's."""
    if chapter is None:
        return f'<div class="ns-empty ns-page">{escape(note or strings["reading_empty"])}</div>'
    paragraphs: list[str] = []
    at = chapter.span.start
    for line in text[chapter.span.start : chapter.span.end].split("\n"):
        span = Span(at, at + len(line))
        at = span.end + 1
        if line.strip():
            tag = "h3" if not paragraphs and line.strip() == chapter.title.split(" · ")[-1].strip() else "p"
            paragraphs.append(f"<{tag}>{_marked(text, span, [cited] if cited else [])}</{tag}>")
    warning = f'<div class="ns-notice">{escape(note)}</div>' if note else ""
    return f'{warning}<article class="ns-page" data-chapter="{chapter.number}">{"".join(paragraphs)}</article>'


def book_line(facts: str, dense: str) -> str:
    """One line about a book."""
    return f'<div class="ns-facts"><span>{escape(facts)}</span><span>{escape(dense)}</span></div>'


def notice(text: str, kind: str = "info") -> str:
    """A calm line: ``kind`` is info, busy or error."""
    return f'<div class="ns-notice ns-{kind}" role="status">{escape(text)}</div>' if text else ""


def _turn(turn: Mapping[str, Any], status: str, strings: Strings) -> str:
    body = _answer(turn["answer"], turn["citations"])
    if turn["state"] == "writing":
        body += '<span class="ns-caret"></span>'
    tail = ""
    if turn["state"] == "stopped":
        body += f' <span class="ns-muted">{escape(strings["answer_stopped"])}</span>'
    elif turn["state"] == "failed":
        tail = notice(turn["note"], "error")
    elif turn["state"] == "not_found":
        tail = notice(strings["answer_not_found"])
    if turn.get("usage"):
        tail += f'<div class="ns-usage">{escape(turn["usage"])}</div>'
    if status:
        tail += f'<div class="ns-status">{escape(status)}</div>'
    return f'<section><div class="ns-q">{escape(turn["question"])}</div><div class="ns-a">{body}</div>{tail}</section>'


def _answer(answer: str, citations: Sequence[Mapping[str, Any]]) -> str:
    """The answer with a number behind each part that a citation supports."""
    marks: dict[int, list[Mapping[str, Any]]] = {}
    for citation in citations:
        marks.setdefault(min(citation["answer_end"], len(answer)), []).append(citation)
    pieces, at = [], 0
    for end in sorted(marks):
        pieces.append(escape(answer[at:end]).replace("\n", "<br>"))
        for citation in marks[end]:
            pieces.append(
                f'<button type="button" class="ns-cite" {_place(citation)} title="{escape(citation["quote"])}">'
                f"{citation['number']}</button>"
            )
        at = end
    return "".join([*pieces, escape(answer[at:]).replace("\n", "<br>")])


def _card(passage: Mapping[str, Any], citations: Sequence[Mapping[str, Any]]) -> str:
    span = Span(passage["start"], passage["end"])
    cited = [Span(c["start"], c["end"]) for c in citations if span.overlap(Span(c["start"], c["end"]))]
    first = cited[0] if cited else span
    shift = [
        Span(c.start - span.start, c.end - span.start) for c in cited if span.start <= c.start and c.end <= span.end
    ]
    body = _marked(passage["text"], Span(0, len(passage["text"])), shift)
    place = _place({"chapter": passage["chapter"], "start": first.start, "end": first.end})
    return (
        f'<div class="ns-card{" ns-cited" if cited else ""}" role="button" tabindex="0" {place}>'
        f'<div class="ns-card-head"><b>{passage["number"]}</b>{escape(passage["chapter_title"])}</div>'
        f'<div class="ns-card-text">{body}</div></div>'
    )


def _place(where: Mapping[str, Any]) -> str:
    return f'data-chapter="{int(where["chapter"])}" data-start="{int(where["start"])}" data-end="{int(where["end"])}"'


def _marked(text: str, span: Span, marked: Sequence[Span]) -> str:
    """The text of a span, escaped, with what lies in ``marked`` in a <mark>."""
    pieces, at = [], span.start
    for mark in sorted(marked):
        start, end = max(at, mark.start), min(span.end, mark.end)
        if start < end:
            pieces += [escape(text[at:start]), "<mark>", escape(text[start:end]), "</mark>"]
            at = end
    return "".join([*pieces, escape(text[at : span.end])])
