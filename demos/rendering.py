"""What handlers put on the page, as HTML: pure functions of values and strings.

Everything that comes from a book, a file name or a model is escaped here; a novel is a stranger's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from core.data.text import Chapter, Span

__all__ = ["book_line", "conversation", "evidence_cards", "facts", "notice", "reading_sheet"]

Strings = Mapping[str, str]
# A card shows the cited sentence with so many characters of the passage on either side of it.
CONTEXT_CHARS = 48
SENTENCE_END = re.compile(r"(?:[。！？!?…]|\.(?=\s))[”’」』\"']?|\n")


def conversation(turns: Sequence[Mapping[str, Any]], status: str, strings: Strings) -> str:
    """Questions and answers, newest last; citation numbers can be clicked."""
    if not turns:
        return f'<div class="ns-empty">{escape(strings["conversation_empty"])}</div>'
    sections = (_turn(turn, status if turn is turns[-1] else "", strings) for turn in turns)
    return f'<div class="ns-talk">{"".join(sections)}</div>'


def evidence_cards(
    passages: Sequence[Mapping[str, Any]],
    citations: Sequence[Mapping[str, Any]],
    coverage: tuple[int, int],
    strings: Strings,
) -> str:
    """One card a passage, best first, with the cited sentences marked; a click opens the book there.

    Args:
        passages: ``Passage.to_dict()``, with ``excerpt``, the (start, end) to show until something of it is cited.
    """
    head = f'<div class="ns-head">{escape(strings["evidence"])}'
    if not passages:
        return f'{head}</div><div class="ns-empty ns-quiet">{escape(strings["evidence_empty"])}</div>'
    done, total = coverage
    line = strings["coverage" if done else "coverage_none"].format(done=done, total=total)
    cards = "".join(_card(passage, citations, strings) for passage in passages)
    return f"{head}<span>{escape(line)}</span></div>{cards}"


def reading_sheet(
    chapter: Chapter, text: str, cited: Span | None, strings: Strings, *, is_first: bool, ending: str, note: str = ""
) -> str:
    """A chapter set for reading, with one span marked.

    Args:
        text: the whole novel's.
        is_first: whether nothing comes before it.
        ending: said below the chapter when the reader can turn no further; empty when one can.
    """
    # The title has its spaces set right and may be preceded by its volume's.
    heading = "".join(chapter.title.split(" · ")[-1].split())
    paragraphs: list[str] = []
    at = chapter.span.start
    for line in text[chapter.span.start : chapter.span.end].split("\n"):
        span = Span(at, at + len(line))
        at = span.end + 1
        if line.strip():
            tag = "h3" if not paragraphs and "".join(line.split()) == heading else "p"
            paragraphs.append(f"<{tag}>{_marked(text, span, [cited] if cited else []).strip()}</{tag}>")
    end = f'<p class="ns-end">{escape(ending)}</p>' if ending else ""
    return (
        f'<aside class="ns-sheet" role="dialog" aria-label="{escape(chapter.title)}"><header>'
        f"{_turner(-1, strings['previous_chapter'], is_first)}<b>{escape(chapter.title)}</b>"
        f"{_turner(1, strings['next_chapter'], bool(ending))}"
        f'<button type="button" class="ns-close" data-close="1" aria-label="{escape(strings["close"])}">×</button>'
        f'</header><div class="ns-scroll">{notice(note)}'
        f'<article data-chapter="{chapter.number}">{"".join(paragraphs)}{end}</article></div></aside>'
    )


def book_line(facts: str, opener: tuple[str, int], dense: str, share: float, hold: str) -> str:
    """One line about a book: a button that opens it, and how far its vectors are.

    Args:
        opener: the button's label and the chapter it opens.
        share: part of the vectors that is made, 0 to 1; 1 hides the bar.
        hold: label of the button that pauses or resumes the work; empty for none.
    """
    place = _place({"chapter": opener[1], "start": 0, "end": 0})
    bar = f'<i class="ns-bar"><i style="width:{share:.1%}"></i></i>' if share < 1 else ""
    button = f'<button type="button" class="ns-link" data-hold="1">{escape(hold)}</button>' if hold else ""
    return (
        f'<div class="ns-facts"><span>{escape(facts)} '
        f'<button type="button" class="ns-link" {place}>{escape(opener[0])}</button></span>'
        f"<span>{bar}{escape(dense)} {button}</span></div>"
    )


def notice(text: str, kind: str = "info", share: float | None = None) -> str:
    """A calm line: ``kind`` is info, busy or error; ``share``, 0 to 1, draws how much of the work is done."""
    if not text:
        return ""
    bar = f'<i class="ns-bar"><i style="width:{share:.1%}"></i></i>' if share is not None else ""
    role = "alert" if kind == "error" else "status"
    return f'<div class="ns-notice ns-{kind}" role="{role}">{escape(text)}{bar}</div>'


def facts(parts: Sequence[str]) -> str:
    """A quiet line of facts."""
    return f'<div class="ns-usage" role="status">{" · ".join(map(escape, parts))}</div>'


def _turn(turn: Mapping[str, Any], status: str, strings: Strings) -> str:
    body, tail = _answer(turn["answer"], turn["citations"]), ""
    if turn["state"] == "writing":
        body += '<span class="ns-caret"></span>'
    elif turn["state"] == "stopped":
        body += f' <span class="ns-muted">{escape(strings["answer_stopped"])}</span>'
    elif turn["state"] == "failed":
        tail = notice(turn["note"], "error")
    elif turn["state"] == "not_found":
        tail = notice(strings["answer_not_found"])
    if turn.get("usage"):
        tail += f'<div class="ns-usage">{escape(turn["usage"])}</div>'
    if status:
        tail += f'<div class="ns-status">{escape(status)}</div>'
    asked = f'<div class="ns-q"><i>{escape(strings["asked"])}</i><span>{escape(turn["question"])}</span></div>'
    return f'<section class="ns-is-{escape(turn["state"])}">{asked}<div class="ns-a">{body}</div>{tail}</section>'


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
                f"{int(citation['number'])}</button>"
            )
        at = end
    return "".join([*pieces, escape(answer[at:]).replace("\n", "<br>")])


def _card(passage: Mapping[str, Any], citations: Sequence[Mapping[str, Any]], strings: Strings) -> str:
    whole = Span(passage["start"], passage["end"])
    # A quotation may begin in one passage and end in the next; each card marks its own part.
    cited = [
        Span(max(whole.start, c["start"]), min(whole.end, c["end"]))
        for c in citations
        if whole.overlap(Span(c["start"], c["end"]))
    ]
    numbers = sorted({int(c["number"]) for c in citations if whole.overlap(Span(c["start"], c["end"]))})
    shown = list(_windows(cited, whole, passage["text"])) if cited else [Span(*passage["excerpt"])]
    pieces = [_excerpt(passage, span, cited) for span in shown]
    body = " …… ".join(pieces)
    body = f"{'……' if shown[0].start > whole.start else ''}{body}{'……' if shown[-1].end < whole.end else ''}"
    place = _place({"chapter": passage["chapter"], "start": shown[0].start, "end": shown[0].end})
    if cited:
        place = _place({"chapter": passage["chapter"], "start": cited[0].start, "end": cited[0].end})
    label = strings["cited_as"].format(numbers=" ".join(map(str, numbers))) if numbers else ""
    return (
        f'<div class="ns-card{" ns-cited" if cited else ""}" role="button" tabindex="0" {place}>'
        f'<div class="ns-card-head"><b>{int(passage["number"])}</b><span>{escape(passage["chapter_title"])}</span>'
        f'<em>{escape(label)}</em></div><div class="ns-card-text">{body}</div></div>'
    )


def _windows(cited: Sequence[Span], whole: Span, text: str) -> Iterator[Span]:
    """The cited spans with a sentence or so of context on both sides; neighbours that touch become one."""
    open_one: Span | None = None
    for span in sorted(cited):
        start, end = max(whole.start, span.start - CONTEXT_CHARS), min(whole.end, span.end + CONTEXT_CHARS)
        before = text[start - whole.start : span.start - whole.start]
        after = text[span.end - whole.start : end - whole.start]
        if start > whole.start and (first := SENTENCE_END.search(before)):
            start += first.end()
        if end < whole.end and (ends := [match.end() for match in SENTENCE_END.finditer(after)]):
            end = span.end + ends[-1]
        window = Span(start, end)
        if open_one is not None and window.start <= open_one.end:
            open_one = Span(open_one.start, max(open_one.end, window.end))
            continue
        if open_one is not None:
            yield open_one
        open_one = window
    if open_one is not None:
        yield open_one


def _excerpt(passage: Mapping[str, Any], span: Span, cited: Sequence[Span]) -> str:
    origin = passage["start"]
    local = [Span(c.start - origin, c.end - origin) for c in cited]
    html = _marked(passage["text"], Span(span.start - origin, span.end - origin), local)
    return re.sub(r"\s*\n\s*", "\n", html.strip())


def _turner(step: int, label: str, is_off: bool) -> str:
    return f'<button type="button" data-step="{step}"{" disabled" if is_off else ""}>{escape(label)}</button>'


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
