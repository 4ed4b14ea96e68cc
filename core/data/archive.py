"""Open the archive that an EPUB is, without trusting it.

Nothing is unpacked to disk, every size is bounded, XML that declares entities is refused, and a name that leads out
of the archive is an error. What the members mean is for ``core.data.epub``.
"""

from __future__ import annotations

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree

from core.errors import BookTooLarge, UnsupportedFormat

__all__ = ["EpubArchive", "descendants", "local_name"]

_MAX_TEXT_BYTES = 200 * 2**20
_MAX_MEMBERS = 20_000
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_ENTITY_DECLARATIONS = tuple("<!ENTITY".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
# What zipfile lets through of damaged archives: its own error, the decompressors', and those of bad offsets.
_UNPACKING_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)


class EpubArchive:
    """Members of an EPUB's archive, read within bounds.

    Args:
        data: the whole archive.
        name: how messages call the book.

    Raises:
        UnsupportedFormat: the bytes are no whole archive.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._left_bytes = _MAX_TEXT_BYTES
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            members = self._zip.infolist()
        except _UNPACKING_ERRORS as wrong:
            raise self.damaged(f"not a whole ZIP archive: {wrong}") from wrong
        if len(members) > _MAX_MEMBERS:
            raise UnsupportedFormat(f"{name} holds {len(members):,} files, more than any book; check what it is")
        self.members = {member.filename: member for member in members}
        self._by_lower = {path.lower(): path for path in self.members}

    def damaged(self, what: str) -> UnsupportedFormat:
        """The error to raise for a part that is not as an EPUB wants it."""
        return UnsupportedFormat(f"{self.name} is a damaged EPUB ({what}); get an intact copy, or export it again")

    def find(self, path: str) -> str | None:
        """The member of that path; letters' case is forgiven, as other readers do."""
        return path if path in self.members else self._by_lower.get(path.lower())

    def resolve(self, folder: str, reference: str) -> str:
        """The path that a reference inside ``folder`` names.

        Raises:
            UnsupportedFormat: it leads out of the archive.
        """
        target = unquote(reference)
        path = posixpath.normpath(posixpath.join(folder, target))
        if target.startswith("/") or "\\" in target or path == ".." or path.startswith(("../", "/")):
            raise self.damaged(f"{reference!r} leads out of the book")
        return path

    def read(self, path: str) -> bytes:
        """The member's bytes.

        Raises:
            UnsupportedFormat: it is missing, damaged, or locked by a password.
            BookTooLarge: all that was read would be more than the limit.
        """
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
        except _UNPACKING_ERRORS as wrong:
            raise self.damaged(f"{path!r} cannot be unpacked: {wrong}") from wrong
        self._left_bytes -= len(data)
        return data

    def xml(self, path: str) -> ElementTree.Element:
        """The root of a member that is XML.

        Raises:
            UnsupportedFormat: it is not well-formed, or declares entities.
        """
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
            for data in descendants(self.xml("META-INF/encryption.xml"), "EncryptedData"):
                methods = [method.get("Algorithm", "") for method in descendants(data, "EncryptionMethod")]
                if not methods or any(method not in _FONT_OBFUSCATION for method in methods):
                    locks.append("META-INF/encryption.xml")
                    break
        if locks:
            raise UnsupportedFormat(
                f"{self.name} is protected by DRM ({locks[0]}), so its text cannot be read; wanted an EPUB without "
                "protection: get one from the publisher or a public-domain source"
            )


def local_name(element: ElementTree.Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def descendants(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The element and those inside it that have that local name."""
    return (child for child in element.iter() if local_name(child) == name)
