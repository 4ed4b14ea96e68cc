"""Read an EPUB: its reading order, its table of contents, its text.

An EPUB is a ZIP archive from a stranger. Nothing is unpacked to disk, every size is bounded, XML that declares
entities is refused, and a name that leads out of the archive is an error. Protected books are named as such.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote
from xml.etree import ElementTree

from core.data.chapters import chapters_from_headings, split_chapters
from core.data.headings import Heading, classify, find_headings
from core.data.normalise import language_of, normalise
from core.data.text import Chapter, Language
from core.data.xhtml import Document, read_document
from core.errors import BookTooLarge, UnsupportedFormat

__all__ = ["EpubBook", "read_epub"]

_MAX_TEXT_BYTES = 200 * 2**20
_MAX_MEMBERS = 20_000
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_ENTITY_DECLARATIONS = tuple("<!ENTITY".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
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
    archive = _Archive(data, name)
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
        if document.is_contents or not document.lines:
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
    if normalise(text) != text:
        raise AssertionError("lines of a document hold a line end")
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


class _Archive:
    """Members of the ZIP archive, read within bounds."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._left_bytes = _MAX_TEXT_BYTES
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = self._zip.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as wrong:
            raise self.damaged(f"not a whole ZIP archive: {wrong}") from wrong
        if len(members) > _MAX_MEMBERS:
            raise UnsupportedFormat(f"{name} holds {len(members):,} files, more than any book; check what it is")
        self.members = {member.filename: member for member in members}
        self._by_lower = {path.lower(): path for path in self.members}

    def damaged(self, what: str) -> UnsupportedFormat:
        return UnsupportedFormat(f"{self.name} is a damaged EPUB ({what}); get an intact copy, or export it again")

    def find(self, path: str) -> str | None:
        """The member of that path; letters' case is forgiven, as other readers do."""
        return path if path in self.members else self._by_lower.get(path.lower())

    def resolve(self, folder: str, reference: str) -> str:
        """The path that a reference inside ``folder`` names."""
        target = unquote(reference)
        path = posixpath.normpath(posixpath.join(folder, target))
        if target.startswith("/") or "\\" in target or path == ".." or path.startswith(("../", "/")):
            raise self.damaged(f"{reference!r} leads out of the book")
        return path

    def read(self, path: str) -> bytes:
        found = self.find(path)
        if found is None:
            raise self.damaged(f"{path!r} is missing")
        member = self.members[found]
        if member.flag_bits & 1:
            raise UnsupportedFormat(f"{self.name} is protected by a password; unlock it first, then add it")
        if member.file_size > self._left_bytes:
            raise BookTooLarge(
                f"{self.name} unpacks to more than {_MAX_TEXT_BYTES // 2**20} MB of text, more than any novel; "
                "check what it is"
            )
        try:
            with self._zip.open(member) as file:
                data = file.read(self._left_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as wrong:
            raise self.damaged(f"{path!r} cannot be unpacked: {wrong}") from wrong
        self._left_bytes -= len(data)
        return data

    def xml(self, path: str) -> ElementTree.Element:
        data = self.read(path)
        if any(mark in data for mark in _ENTITY_DECLARATIONS):
            raise self.damaged(f"{path!r} declares XML entities, which can be a trap")
        try:
            return ElementTree.fromstring(data)
        except (ElementTree.ParseError, LookupError, ValueError) as wrong:
            raise self.damaged(f"{path!r} is not well-formed XML: {wrong}") from wrong

    def refuse_protected(self) -> None:
        """Stop at a book whose text is locked; obfuscated fonts lock no text."""
        locks = [path for path in ("META-INF/rights.xml", "META-INF/license.lcpl") if self.find(path)]
        if self.find("META-INF/encryption.xml"):
            for data in _descendants(self.xml("META-INF/encryption.xml"), "EncryptedData"):
                methods = [method.get("Algorithm", "") for method in _descendants(data, "EncryptionMethod")]
                if not methods or any(method not in _FONT_OBFUSCATION for method in methods):
                    locks.append("META-INF/encryption.xml")
                    break
        if locks:
            raise UnsupportedFormat(
                f"{self.name} is protected by DRM ({locks[0]}), so its text cannot be read; wanted an EPUB without "
                "protection: get one from the publisher or a public-domain source"
            )


class _Package:
    """The package document: title, reading order, where the table of contents is."""

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive
        path = self._package_path()
        self._folder = posixpath.dirname(path)
        root = archive.xml(path)
        self._paths: dict[str, str] = {}
        self._nav_path = ""
        media_types: dict[str, str] = {}
        for item in _descendants(root, "item"):
            key, href = item.get("id", ""), item.get("href", "")
            if not key or not href or re.match(r"[a-z][a-z0-9+.-]*:", href, re.I):
                continue
            media_types[key] = item.get("media-type", "")
            self._paths[key] = archive.resolve(self._folder, href.split("#")[0])
            if "nav" in item.get("properties", "").split():
                self._nav_path = self._paths[key]
        spine = next(_descendants(root, "spine"), None)
        if spine is None:
            raise archive.damaged(f"{path!r} has no reading order")
        ncx = self._paths.get(spine.get("toc", ""))
        self._ncx_path = ncx or next(
            (self._paths[key] for key, kind in media_types.items() if kind == "application/x-dtbncx+xml"), ""
        )
        contents = {self._nav_path} | {
            archive.resolve(self._folder, reference.get("href", "").split("#")[0])
            for reference in _descendants(root, "reference")
            if reference.get("type") == "toc" and reference.get("href")
        }
        self.spine: list[str] = []
        for reference in _descendants(spine, "itemref"):
            key = reference.get("idref", "")
            if reference.get("linear", "yes") == "no" or media_types.get(key, "?") not in _DOCUMENT_TYPES:
                continue
            if self._paths[key] not in contents and self._paths[key] not in self.spine:
                self.spine.append(self._paths[key])
        title = next(_descendants(root, "title"), None)
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
            for rootfile in _descendants(self._archive.xml("META-INF/container.xml"), "rootfile"):
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
        from selectolax.lexbor import LexborHTMLParser

        parser = LexborHTMLParser(self._archive.read(path))
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
        for point in _descendants(self._archive.xml(path), "navPoint"):
            label = next(_descendants(point, "text"), None)
            content = next((child for child in point if _local(child) == "content"), None)
            has_children = any(_local(child) == "navPoint" for child in point)
            if label is not None and content is not None:
                self._add(entries, path, content.get("src", ""), "".join(label.itertext()), has_children)
        return entries

    def _add(self, entries: list[_Entry], path: str, reference: str, title: str, has_children: bool) -> None:
        target, _, fragment = reference.partition("#")
        title = " ".join(title.split())
        if title and not re.match(r"[a-z][a-z0-9+.-]*:", target, re.I):
            place = self._archive.resolve(posixpath.dirname(path), target) if target else path
            entries.append(_Entry(place, unquote(fragment), title, has_children))


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _descendants(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element.iter() if _local(child) == name)
