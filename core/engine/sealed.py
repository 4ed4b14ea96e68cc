"""A piece of data inside a model file: what it is, which version, and a checksum in front.

Nothing here knows what the data means.
"""

from __future__ import annotations

import zlib

from core.errors import ModelLoadError

__all__ = ["seal", "unseal"]

HEAD_BYTES = 16


def seal(magic: bytes, version: int, body: bytes) -> bytes:
    """The body behind eight bytes of magic, its version and its checksum."""
    return b"".join([magic, version.to_bytes(4, "little"), zlib.crc32(body).to_bytes(4, "little"), body])


def unseal(data: bytes, magic: bytes, version: int, *, what: str) -> bytes:
    """The body that ``seal`` sealed.

    Args:
        what: the data's name, for messages.

    Raises:
        ModelLoadError: the data is something else, of another version, or damaged.
    """
    if data[:8] != magic or int.from_bytes(data[8:12], "little") != version:
        raise ModelLoadError(f"this is no {what} of version {version}; convert the model again")
    body = data[HEAD_BYTES:]
    if zlib.crc32(body) != int.from_bytes(data[12:HEAD_BYTES], "little"):
        raise ModelLoadError(f"the {what} is damaged, its checksum does not fit; fetch or convert it again")
    return body
