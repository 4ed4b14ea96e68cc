"""Read a novel from a file or an upload: bytes in, ``Novel`` out.

The content decides what a file is, its name only where the content does not. Nothing here cuts chunks or keeps a book.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePath

from core.data.chapters import split_chapters
from core.data.encoding import decode
from core.data.formats import is_zip, refuse_extension, refuse_web_page
from core.data.normalise import language_of, normalise
from core.data.text import Novel
from core.errors import BadBook, BookTooLarge, EmptyBook

__all__ = ["MAX_BYTES", "novel_from_bytes", "read_novel"]

MAX_BYTES = 200 * 2**20
"""The largest file that is read, in bytes."""

_BOOK_TITLE = re.compile(r"[ \t\u3000]*(?:书名|書名)?[:：]?[ \t\u3000]*《([^《》\n]{1,40})》")
_MARKDOWN_TITLE = re.compile(r"\s*# +(\S[^\n]{0,60})")
_TITLE_LINES = 5


def read_novel(
    path: str | Path, *, title: str | None = None, encoding: str | None = None, max_bytes: int = MAX_BYTES
) -> Novel:
    """The novel in a text, Markdown or EPUB file.

    Args:
        title: the book's name; None takes the EPUB's own, a 《name》 in the first lines, or the file's name.
        encoding: of a text file, used strictly; None finds it by evidence.

    Raises:
        BadBook: there is no such file, it cannot be read, or it is no novel; subclasses say which.
        SettingsError: no encoding is called that.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise BadBook(f"{path} is a folder, wanted a text, Markdown or EPUB file; name the file inside it")
        if not path.exists():
            raise BadBook(f"{path} does not exist; check the path")
        if not path.is_file():
            raise BadBook(f"{path} is not a regular file, wanted a text, Markdown or EPUB file")
        _check_size(path.stat().st_size, str(path), max_bytes)
        data = path.read_bytes()
    except OSError as wrong:
        raise BadBook(f"cannot read {path}: {wrong.strerror or wrong}; check its permissions") from wrong
    except ValueError as wrong:
        raise BadBook(f"{str(path)!r} is no path of a file ({wrong})") from wrong
    return novel_from_bytes(data, name=str(path), title=title, encoding=encoding, max_bytes=max_bytes)


def novel_from_bytes(
    data: bytes, *, name: str, title: str | None = None, encoding: str | None = None, max_bytes: int = MAX_BYTES
) -> Novel:
    """The novel in the bytes of a file, for example an upload.

    Args:
        name: the file's name, for messages, for its ending and as the last resort for a title.

    Raises:
        BadBook: the bytes are no novel; subclasses say why.
        SettingsError: no encoding is called that.
    """
    _check_size(len(data), name, max_bytes)
    if not data:
        raise EmptyBook(f"{name} is empty, wanted a novel; check that it was saved or copied whole")
    own_title = ""
    if is_zip(data) or PurePath(name).suffix.lower() == ".epub":
        from core.data.epub import read_epub

        book = read_epub(data, name)
        text, own_title, language, chapters = book.text, book.title, book.language, book.chapters
        used, evidence = "utf-8", "an EPUB says itself how its text is encoded"
        if not text.strip():
            raise EmptyBook(f"{name} holds no text, only pictures or empty pages; wanted a novel with text")
    else:
        refuse_extension(name)
        refuse_web_page(data, name)
        decoded = decode(data, encoding=encoding, source=name)
        text, used, evidence = normalise(decoded.text), decoded.encoding, decoded.evidence
        if not text.strip():
            raise EmptyBook(f"{name} holds nothing but white space, wanted a novel; check that it was saved whole")
        language = language_of(text)
        chapters = split_chapters(text, language)
    return Novel(
        id=hashlib.sha256(text.encode("utf-8")).hexdigest()[:16],
        title=(title or "").strip() or own_title or _title_in(text) or PurePath(name).stem or name,
        text=text,
        language=language,
        chapters=chapters,
        encoding=used,
        evidence=evidence,
    )


def _check_size(size_bytes: int, name: str, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise BookTooLarge(
            f"{name} has {size_bytes / 2**20:,.1f} MB, more than the limit of {max_bytes / 2**20:,.1f} MB; "
            "split the file, or raise the limit"
        )


def _title_in(text: str) -> str:
    """What the first lines name as the book's title, or nothing."""
    opening = [line for line in text[:2000].split("\n") if line.strip()][:_TITLE_LINES]
    for line in opening:
        match = _BOOK_TITLE.match(line)
        if match and len(line.strip()) <= 60:
            return match[1].strip()
    match = _MARKDOWN_TITLE.match(opening[0]) if opening else None
    return match[1].strip(" #*") if match else ""
