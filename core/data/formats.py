"""Tell what a file is by its first bytes, and say how to get a readable one.

Nothing here decodes a text or opens a file.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath

from core.errors import UnsupportedFormat

__all__ = ["EXTENSIONS", "is_zip", "refuse_binary", "refuse_extension", "refuse_web_page"]

EXTENSIONS = (".txt", ".text", ".md", ".markdown", ".epub")
"""Endings of the files that can be read."""

_WANTED = "wanted a text, Markdown or EPUB file"
_CONVERT = "convert it to EPUB or text (Calibre does) and add that"
_EXPORT = "open it in its own program, save it as plain text or EPUB, and add that"
_TEXT_NEEDED = "find the book as text or EPUB; an image or a recording has no text to search"
_UNPACK = "unpack it and add the book inside"
_BOOK_INSIDE = "add the book's own file instead"

# (offset, magic bytes, name, cure)
_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"%PDF-", "a PDF", _CONVERT),
    (60, b"BOOKMOBI", "a MOBI or AZW (Kindle) book", _CONVERT),
    (60, b"TEXtREAd", "a PalmDOC book", _CONVERT),
    (0, b"TPZ", "a Topaz (Kindle) book", _CONVERT),
    (0, b"CONT\x02\0", "a KFX (Kindle) book", _CONVERT),
    (0, b"ITOLITLS", "a Microsoft Reader (LIT) book", _CONVERT),
    (0, b"ITSF", "a CHM help file", _CONVERT),
    (0, b"AT&TFORM", "a DjVu scan", _CONVERT),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word document (.doc)", _EXPORT),
    (0, b"{\\rtf", "a Rich Text (RTF) document", _EXPORT),
    (0, b"\x89PNG\r\n", "a PNG image", _TEXT_NEEDED),
    (0, b"\xff\xd8\xff", "a JPEG image", _TEXT_NEEDED),
    (0, b"GIF87a", "a GIF image", _TEXT_NEEDED),
    (0, b"GIF89a", "a GIF image", _TEXT_NEEDED),
    (8, b"WEBP", "a WebP image", _TEXT_NEEDED),
    (0, b"ID3", "an MP3 recording", _TEXT_NEEDED),
    (0, b"OggS", "an Ogg recording", _TEXT_NEEDED),
    (4, b"ftyp", "a video or recording", _TEXT_NEEDED),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"\x1f\x8b\x08", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"\x7fELF", "a program", _BOOK_INSIDE),
    (0, b"SQLite format 3\0", "an SQLite database", _BOOK_INSIDE),
)
# These begin with plain letters, so a text may begin with them too; a file of that kind also holds NULs.
_NEEDS_NUL = frozenset((b"TPZ", b"ITSF", b"ID3", b"OggS", b"BZh", b"ftyp", b"WEBP", b"AT&TFORM", b"ITOLITLS"))

_EXTENSION_CURES = {
    ".pdf": ("a PDF", _CONVERT),
    ".mobi": ("a MOBI (Kindle) book", _CONVERT),
    ".azw": ("an AZW (Kindle) book", _CONVERT),
    ".azw3": ("an AZW3 (Kindle) book", _CONVERT),
    ".kfx": ("a KFX (Kindle) book", _CONVERT),
    ".prc": ("a MOBI (Kindle) book", _CONVERT),
    ".lit": ("a Microsoft Reader (LIT) book", _CONVERT),
    ".chm": ("a CHM help file", _CONVERT),
    ".djvu": ("a DjVu scan", _CONVERT),
    ".fb2": ("a FictionBook", _CONVERT),
    ".htm": ("a web page", _EXPORT),
    ".html": ("a web page", _EXPORT),
    ".doc": ("an old Word document", _EXPORT),
    ".docx": ("a Word document", _EXPORT),
    ".odt": ("an OpenDocument text", _EXPORT),
    ".rtf": ("a Rich Text (RTF) document", _EXPORT),
    ".zip": ("a ZIP archive", _UNPACK),
    ".rar": ("a RAR archive", _UNPACK),
    ".7z": ("a 7-Zip archive", _UNPACK),
}


def is_zip(data: bytes) -> bool:
    """Whether the bytes begin as a ZIP archive does, which an EPUB is."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def refuse_extension(name: str) -> None:
    """Stop at a file whose ending names a format that cannot be read; any other ending passes.

    Raises:
        UnsupportedFormat: the message names the format and the cure.
    """
    ending = PurePath(name).suffix.lower()
    if ending in _EXTENSION_CURES:
        found, cure = _EXTENSION_CURES[ending]
        raise UnsupportedFormat(f"{name} is {found}, {_WANTED}; {cure}")


def refuse_binary(data: bytes, source: str) -> None:
    """Stop at bytes that begin as a known file other than text does.

    Raises:
        UnsupportedFormat: the message names the format and the cure.
    """
    for offset, magic, found, cure in _MAGICS:
        if data.startswith(magic, offset) and (magic not in _NEEDS_NUL or b"\0" in data[:4096]):
            raise UnsupportedFormat(f"{source} is {found}, {_WANTED}; {cure}")
    if data.startswith(b"MZ") and b"\0" in data[:1024]:
        raise UnsupportedFormat(f"{source} is a Windows program, {_WANTED}; {_BOOK_INSIDE}")
    if is_zip(data):
        found, cure = _zip_kind(data)
        raise UnsupportedFormat(f"{source} is {found}, {_WANTED}; {cure}")


def refuse_web_page(data: bytes, source: str) -> None:
    """Stop at HTML, whose text would come with its tags.

    Raises:
        UnsupportedFormat: the message names the cure.
    """
    opening = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if opening.startswith((b"<!doctype html", b"<html")):
        raise UnsupportedFormat(f"{source} is a web page, {_WANTED}; {_EXPORT}")


def _zip_kind(data: bytes) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged ZIP archive or EPUB", "get an intact copy"
    if "word/document.xml" in names:
        return "a Word document (.docx)", _EXPORT
    if "content.xml" in names and "mimetype" in names:
        return "an OpenDocument text", _EXPORT
    if "META-INF/container.xml" in names:
        return "an EPUB, but is read as text", "give it the ending .epub"
    return "a ZIP archive", _UNPACK
