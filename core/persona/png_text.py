"""Texts inside a PNG: read by keyword, and put in without touching the picture.

Only the chunks are understood, not the pixels. Nothing here knows what a text says, or a character's card.
Source: PNG specification, third edition, sections 5.3 (chunks), 11.3.3 (tEXt, zTXt, iTXt).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping

from core.errors import NovelscopeError

__all__ = ["SIGNATURE", "BadPng", "plain_png", "png_texts", "png_with_texts"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What a packed text may unpack to: a few kilobytes can hold gigabytes.
MOST_TEXT_BYTES = 16 * 1024 * 1024
PLAIN_WIDTH, PLAIN_HEIGHT, PLAIN_GREY = 64, 96, 0x80
TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


class BadPng(NovelscopeError, ValueError):
    """Bytes are no PNG, or a damaged one."""


def png_texts(png: bytes, keywords: Collection[str]) -> dict[str, bytes]:
    """The texts of those keywords, as bytes; of several with one keyword, the first.

    Raises:
        BadPng: no PNG, a part is missing or damaged, or a text is too long.
    """
    texts: dict[str, bytes] = {}
    for kind, body in _chunks(png):
        if kind in TEXT_KINDS:
            keyword = _keyword(body)
            if keyword in keywords and keyword not in texts:
                texts[keyword] = _text(kind, body[len(keyword) + 1 :])
    return texts


def png_with_texts(png: bytes, texts: Mapping[str, bytes], *, without: Collection[str] = ()) -> bytes:
    """The same picture with those texts (Latin-1, no zero byte) in place of any of the same keywords.

    Args:
        without: keywords of which no text is to stay.

    Raises:
        BadPng: no PNG, or a part is missing or damaged.
    """
    gone = {*texts, *without}
    kept = [(kind, body) for kind, body in _chunks(png) if kind not in TEXT_KINDS or _keyword(body) not in gone]
    # Before the pixels: a reader that stops there has seen the texts.
    first_pixels = next((place for place, (kind, _) in enumerate(kept) if kind == b"IDAT"), len(kept) - 1)
    ours = [(b"tEXt", keyword.encode("latin-1") + b"\0" + text) for keyword, text in texts.items()]
    return SIGNATURE + b"".join(_chunk(*part) for part in [*kept[:first_pixels], *ours, *kept[first_pixels:]])


def plain_png() -> bytes:
    """A small picture of one grey."""
    head = struct.pack(">IIBBBBB", PLAIN_WIDTH, PLAIN_HEIGHT, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([PLAIN_GREY]) * PLAIN_WIDTH) * PLAIN_HEIGHT
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of every chunk, up to IEND; what follows that is no part of the picture."""
    if not png.startswith(SIGNATURE):
        raise BadPng("the file is no PNG: it does not begin like one")
    at = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if len(png) - at < 12:
            raise BadPng("the PNG is cut off; fetch it again")
        (length,) = struct.unpack_from(">I", png, at)
        previous, kind = kind, png[at + 4 : at + 8]
        if not kind.isalpha() or (not previous and kind != b"IHDR"):
            raise BadPng(f"the PNG is damaged at byte {at}; fetch it again")
        if length > len(png) - at - 12:
            raise BadPng("the PNG is cut off; fetch it again")
        body = png[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", png, at + 8 + length)
        if check != zlib.crc32(kind + body):
            raise BadPng(f"the PNG is damaged at byte {at}: the checksum does not fit; fetch it again")
        yield kind, body
        at += 12 + length


def _keyword(body: bytes) -> str:
    return body.split(b"\0", 1)[0].decode("latin-1")


def _text(kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk, from what follows its keyword's zero byte."""
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _unpacked(rest[1:])
    packed, parts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        raise BadPng("a text in the PNG is cut off; fetch it again")
    return _unpacked(parts[2]) if packed else parts[2]


def _unpacked(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(packed, MOST_TEXT_BYTES + 1)
    except zlib.error as wrong:
        raise BadPng(f"a text in the PNG cannot be unpacked ({wrong}); fetch it again") from wrong
    if len(text) > MOST_TEXT_BYTES:
        raise BadPng(f"a text in the PNG unpacks to more than {MOST_TEXT_BYTES // 2**20} MB; use a smaller one")
    if not stream.eof:
        raise BadPng("a text in the PNG is cut off; fetch it again")
    return text
