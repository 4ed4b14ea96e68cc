"""Turn one XHTML document of an EPUB into lines of plain text.

Block elements become lines, ruby readings and scripts are dropped. The documents are read as HTML, which forgives
what XML does not; what HTML would misread of XML is mended first. Nothing here knows the package around a document.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from core.data.encoding import decode

__all__ = ["Document", "clean_line", "parse_xhtml", "read_document"]

_BLOCKS_LIST = (
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav "
    "ol p pre section summary table tbody tfoot thead tr ul"
)
_BLOCKS = frozenset(_BLOCKS_LIST.split())
_SKIPPED_LIST = "script style rt rp rtc head title template svg audio video object iframe noscript"
_SKIPPED = frozenset(_SKIPPED_LIST.split())
_LISTINGS = frozenset(("toc", "landmarks", "page-list"))
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_VOID_LIST = "area base br col embed hr img input link meta param source track wbr"
_VOID = frozenset(_VOID_LIST.split())

_SELF_CLOSED = re.compile(r"<([A-Za-z][\w:.-]*)((?:\s[^<>]*)?)/>")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.S)
_DECLARED = re.compile(rb"""\A(?:\xef\xbb\xbf)?\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_SPACES = re.compile("[ \t\r\n\f\x0b\x85\u2028\u2029]+")
_HAN = "[\\u3000-\\u30ff\\u3400-\\u9fff\\uff00-\\uffef]"
_BREAK_IN_HAN = re.compile(rf"(?<={_HAN})[ \t]*\r?\n[ \t\r\n]*(?={_HAN})")


@dataclass(frozen=True, slots=True)
class Document:
    """The lines of a document.

    Attributes:
        lines: not empty, without white space around them.
        anchors: for each wanted id, the line it stands in or before.
        headings: lines that are ``<h1>`` to ``<h6>``, with that level. Tables of contents are left out of all of these.
    """

    lines: tuple[str, ...]
    anchors: dict[str, int]
    headings: dict[int, int]


def read_document(data: bytes, source: str, wanted_ids: Collection[str] = ()) -> Document:
    """The lines of an XHTML file, with the places of the ids that a table of contents points at.

    Raises:
        UndecodableText: the bytes do not fit the encoding they declare, nor any other.
    """
    parser = parse_xhtml(data, source)
    writer = _LineWriter(frozenset(wanted_ids))
    # An explicit stack: documents nest deeper than Python's recursion may go. None closes the tag beside it.
    stack: list[tuple[Any, str]] = [(parser.body, "")] if parser.body is not None else []
    while stack:
        node, closing = stack.pop()
        if closing:
            writer.close(closing)
            continue
        tag = node.tag
        if tag == "-text":
            writer.add(node.text_content or "")
            continue
        if tag.startswith("-") or tag in _SKIPPED or tag.startswith("!"):
            continue
        attributes = node.attributes
        if attributes.get("epub:type") in _LISTINGS or attributes.get("role") == "doc-toc":
            continue
        writer.open(tag, (attributes.get("id") or attributes.get("name") or "") if attributes else "")
        stack.append((None, tag))
        child = node.last_child
        while child is not None:
            stack.append((child, ""))
            child = child.prev
    writer.end_line()
    return Document(tuple(writer.lines), writer.anchors, writer.headings)


def parse_xhtml(data: bytes, source: str) -> Any:
    """The document's tree, as selectolax gives it.

    Raises:
        UndecodableText: the bytes do not fit the encoding they declare, nor any other.
    """
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(_as_html(_decode_xml(data, source)))


def clean_line(text: str) -> str:
    """The text on one line, its white space made single; breaks between Chinese characters leave none."""
    joined = _BREAK_IN_HAN.sub("", text.replace("\0", "").replace("\ufeff", ""))
    return _SPACES.sub(" ", joined).strip(" ")


class _LineWriter:
    """Collects lines while a document is walked."""

    def __init__(self, wanted_ids: frozenset[str]) -> None:
        self.lines: list[str] = []
        self.anchors: dict[str, int] = {}
        self.headings: dict[int, int] = {}
        self._wanted_ids = wanted_ids
        self._pieces: list[str] = []
        self._heading_level = 0
        self._num_open_pre = 0

    def open(self, tag: str, element_id: str) -> None:
        if tag in _BLOCKS or tag == "br":
            self.end_line()
        if tag in _HEADINGS:
            self._heading_level = int(tag[1])
        elif tag == "pre":
            self._num_open_pre += 1
        elif tag in ("td", "th"):
            self._pieces.append(" ")
        if element_id and element_id in self._wanted_ids:
            self.anchors.setdefault(element_id, len(self.lines))

    def close(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.end_line()
        if tag in _HEADINGS:
            self._heading_level = 0
        elif tag == "pre":
            self._num_open_pre -= 1

    def add(self, text: str) -> None:
        if not self._num_open_pre:
            self._pieces.append(text)
            return
        first, *others = text.split("\n")
        self._pieces.append(first)
        for line in others:
            self.end_line()
            self._pieces.append(line)

    def end_line(self) -> None:
        if not self._pieces:
            return
        line = clean_line("".join(self._pieces))
        self._pieces.clear()
        if line.strip():
            if self._heading_level:
                self.headings[len(self.lines)] = self._heading_level
            self.lines.append(line)


def _decode_xml(data: bytes, source: str) -> str:
    declared = _DECLARED.match(data)
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"utf-16"):
        return decode(data, encoding=declared[1].decode("ascii"), source=source).text
    return decode(data, source=source).text


def _as_html(xml: str) -> str:
    """XML that HTML would misread, mended: ``<title/>`` would swallow the whole book, CDATA would vanish."""
    xml = _CDATA.sub(lambda match: html.escape(match[1]), xml)
    return _SELF_CLOSED.sub(
        lambda match: match[0] if match[1].lower() in _VOID else f"<{match[1]}{match[2]}></{match[1]}>", xml
    )
