"""Read an EPUB: its reading order, its table of contents, its text.

The table of contents begins the chapters; a title that the text does not show becomes a line of it. How the archive
is read safely is for ``core.data.archive``, how a document becomes lines for ``core.data.xhtml``.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from core.data.archive import EpubArchive, descendants, local_name
from core.data.chapters import chapters_from_headings, split_chapters
from core.data.headings import Heading, classify, find_headings
from core.data.normalise import language_of
from core.data.text import Chapter, Language
from core.data.xhtml import Document, clean_line, parse_xhtml, read_document
from core.errors import UnsupportedFormat

__all__ = ["EpubBook", "read_epub"]

_DOCUMENT_TYPES = ("application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document", "")
_SPACE = re.compile(r"\s+")
_HEADING_LINES = 4


@dataclass(frozen=True, slots=True)
class EpubBook:
    """What an EPUB says: its text, and where its table of contents begins chapters."""

    title: str
    text: str
    language: Language
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the table of contents."""

    path: str
    fragment: str
    title: str
    has_children: bool


def read_epub(data: bytes, name: str) -> EpubBook:
    """The text of an EPUB in reading order, with a heading line for each entry of its table of contents.

    Raises:
        UnsupportedFormat: the file is no EPUB, is damaged, or is protected by DRM.
        BookTooLarge: its documents unpack to more than the limit.
        UndecodableText: a document fits no encoding.
    """
    archive = EpubArchive(data, name)
    archive.refuse_protected()
    package = _Package(archive)
    entries = package.contents()
    by_path: defaultdict[str, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_path[entry.path].append(entry)
    blocks: list[str] = []
    headings: list[Heading] = []
    length = 0
    for path in package.spine:
        own = by_path[path]
        document = read_document(archive.read(path), f"{name}: {path}", [e.fragment for e in own if e.fragment])
        if not document.lines:
            continue
        lines, marks = _with_titles(document, own, use_tags=not entries)
        start = length
        for line, mark in zip(lines, marks, strict=True):
            if mark is not None:
                headings.append(replace(mark, start=start, end=start + len(line)))
            start += len(line) + 1
        blocks.append("\n".join(lines))
        length = start + 1
    # Joined by a blank line, so that offsets count one character more than each block's own line end.
    text = "\n\n".join(blocks) + "\n" if blocks else ""
    language = language_of(text)
    return EpubBook(package.title, text, language, _chapters(text, headings, language))


def _chapters(text: str, headings: Sequence[Heading], language: Language) -> tuple[Chapter, ...]:
    in_text = sum(heading.kind == "chapter" for heading in find_headings(text))
    if len(headings) < 2 or in_text > 2 * len(headings):
        return split_chapters(text, language)
    if not any(heading.kind == "chapter" for heading in headings):
        # Bare numbers are doubtful in running text, not in a table of contents.
        headings = [replace(h, kind="chapter") if h.kind in ("listed", "roman", "section") else h for h in headings]
    return chapters_from_headings(text, [replace(h, is_weak=False) for h in headings], language)


def _with_titles(
    document: Document, entries: Sequence[_Entry], *, use_tags: bool
) -> tuple[list[str], list[Heading | None]]:
    """The document's lines, with each entry's title put in where the text does not begin with it."""
    titles: defaultdict[int, list[_Entry]] = defaultdict(list)
    for entry in entries:
        titles[document.anchors.get(entry.fragment, 0) if entry.fragment else 0].append(entry)
    first_tagged = min(document.headings, default=-1) if use_tags else -1
    lines: list[str] = []
    marks: list[Heading | None] = []
    for at, line in enumerate(document.lines):
        for entry in titles.get(at, ()):
            mark = classify(entry.title)
            if mark is not None and mark.kind == "plain" and entry.has_children:
                mark = replace(mark, kind="part")
            following = _squeezed("".join(document.lines[at : at + _HEADING_LINES]))
            if not following.startswith(_squeezed(entry.title)) or entry is not titles[at][-1]:
                lines.append(entry.title)
                marks.append(mark)
            else:
                lines.append(line)
                marks.append(mark)
                break
        else:
            lines.append(line)
            marks.append(classify(line) if at == first_tagged else None)
    # An entry that points behind the last line has no text of its own.
    return lines, marks


def _squeezed(text: str) -> str:
    return _SPACE.sub("", text).lower()


class _Package:
    """The package document: title, reading order, where the table of contents is."""

    def __init__(self, archive: EpubArchive) -> None:
        self._archive = archive
        path = self._package_path()
        self._folder = posixpath.dirname(path)
        root = archive.xml(path)
        self._paths: dict[str, str] = {}
        self._nav_path = ""
        media_types: dict[str, str] = {}
        for item in descendants(root, "item"):
            key, href = item.get("id", ""), item.get("href", "")
            if not key or not href or re.match(r"[a-z][a-z0-9+.-]*:", href, re.I):
                continue
            media_types[key] = item.get("media-type", "")
            self._paths[key] = archive.resolve(self._folder, href.split("#")[0])
            if "nav" in item.get("properties", "").split():
                self._nav_path = self._paths[key]
        spine = next(descendants(root, "spine"), None)
        if spine is None:
            raise archive.damaged(f"{path!r} has no reading order")
        ncx = self._paths.get(spine.get("toc", ""))
        self._ncx_path = ncx or next(
            (self._paths[key] for key, kind in media_types.items() if kind == "application/x-dtbncx+xml"), ""
        )
        contents = {self._nav_path} | {
            archive.resolve(self._folder, reference.get("href", "").split("#")[0])
            for reference in descendants(root, "reference")
            if reference.get("type") == "toc" and reference.get("href")
        }
        self.spine: list[str] = []
        for reference in descendants(spine, "itemref"):
            key = reference.get("idref", "")
            if reference.get("linear", "yes") == "no" or media_types.get(key, "?") not in _DOCUMENT_TYPES:
                continue
            if self._paths[key] not in self.spine:
                self.spine.append(self._paths[key])
        # A book of one file may carry its table of contents in it.
        self.spine = [path for path in self.spine if path not in contents] or self.spine
        title = next(descendants(root, "title"), None)
        self.title = " ".join("".join(title.itertext()).split()) if title is not None else ""

    def contents(self) -> list[_Entry]:
        """Entries of the navigation document, or of the older NCX; none if there is neither."""
        for path, read in ((self._nav_path, self._nav_entries), (self._ncx_path, self._ncx_entries)):
            if path and self._archive.find(path):
                entries = read(path)
                if entries:
                    return entries
        return []

    def _package_path(self) -> str:
        if self._archive.find("META-INF/container.xml"):
            for rootfile in descendants(self._archive.xml("META-INF/container.xml"), "rootfile"):
                path = self._archive.resolve("", rootfile.get("full-path", ""))
                if self._archive.find(path):
                    return path
        packages = [path for path in self._archive.members if path.lower().endswith(".opf")]
        if not packages:
            raise UnsupportedFormat(
                f"{self._archive.name} is a ZIP archive but no EPUB (no package document), wanted a text, Markdown "
                "or EPUB file; unpack it and add the book inside"
            )
        return packages[0]

    def _nav_entries(self, path: str) -> list[_Entry]:
        parser = parse_xhtml(self._archive.read(path), f"{self._archive.name}: {path}")
        navs = parser.css("nav")
        nav = next((n for n in navs if "toc" in (n.attributes.get("epub:type") or "").split()), None)
        nav = nav or (navs[0] if navs else parser.body)
        entries: list[_Entry] = []
        for link in nav.css("a[href]") if nav is not None else ():
            item = link.parent
            has_children = item is not None and item.tag == "li" and item.css_first("ol, ul") is not None
            self._add(entries, path, link.attributes.get("href") or "", link.text(), has_children)
        return entries

    def _ncx_entries(self, path: str) -> list[_Entry]:
        entries: list[_Entry] = []
        for point in descendants(self._archive.xml(path), "navPoint"):
            label = next(descendants(point, "text"), None)
            content = next((child for child in point if local_name(child) == "content"), None)
            has_children = any(local_name(child) == "navPoint" for child in point)
            if label is not None and content is not None:
                self._add(entries, path, content.get("src", ""), "".join(label.itertext()), has_children)
        return entries

    def _add(self, entries: list[_Entry], path: str, reference: str, title: str, has_children: bool) -> None:
        target, _, fragment = reference.partition("#")
        title = clean_line(title)
        if title and not re.match(r"[a-z][a-z0-9+.-]*:", target, re.I):
            place = self._archive.resolve(posixpath.dirname(path), target) if target else path
            entries.append(_Entry(place, unquote(fragment), title, has_children))
