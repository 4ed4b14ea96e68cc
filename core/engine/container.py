"""One file that holds arrays, blobs of bytes and a JSON object, made to be memory-mapped.

Arrays begin at multiples of 64 bytes, so a view needs no copy. The index stands at the end, since a writer learns
lengths and checksums only while it streams. Nothing here knows what the arrays mean.

    offset 0   magic, 8 bytes
           8   kind, 16 bytes, ASCII padded by zeros; version of that kind, uint32; four zero bytes
          32   length of the file, start of the index, length of the index: uint64 each, little-endian
          56   SHA-256 of bytes 0 to 55 followed by the index
          88   zeros to 128, then the data, then the index (JSON)
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.errors import ModelLoadError, UnknownModel

__all__ = ["Container", "ContainerWriter", "open_container"]

MAGIC = b"\x93NSCOPE\n"  # the first byte is no ASCII and no UTF-8, so no text file begins so
FIELDS = struct.Struct("<8s16sI4xQQQ")
DIGEST_BYTES, DATA_START, ALIGNMENT = 32, 128, 64
HASH_BYTES, MAX_THREADS = 1 << 23, 4
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class Item(NamedTuple):
    """Where an array or a blob stands; a blob has no dtype and no shape."""

    start: int
    length: int
    sha256: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()


class ContainerWriter:
    """Streams a file to disk beside its target, which appears whole on leaving the ``with`` block, or not at all.

    Args:
        kind: what the file is, at most 16 ASCII characters; a reader asks for it.
        version: of the kind's meaning, 1 or more; a reader refuses newer ones.

    Raises:
        ModelLoadError: the target exists and may not be overwritten, or the disk refuses.
    """

    def __init__(self, path: Path, *, kind: str, version: int, overwrite: bool = False) -> None:
        assert 0 < len(kind) <= 16 and kind.isascii() and version > 0
        self.path, self.overwrite = path, overwrite
        self._head = (kind.encode("ascii"), version)
        self._items: dict[str, Item] = {}
        self._meta: dict[str, Any] = {}
        self._check_target()
        self._unfinished = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._unfinished.open("xb")
            self._file.write(bytes(DATA_START))
        except OSError as refusal:
            raise ModelLoadError(f"{path} cannot be written: {refusal}") from refusal
        self._at = DATA_START

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        except OSError as refusal:
            raise ModelLoadError(f"{self.path} cannot be written: {refusal}") from refusal
        finally:
            self._discard()

    def add_array(self, name: str, tensor: Tensor) -> None:
        """Write the values of a dense tensor now; it is not kept."""
        dtype = str(tensor.dtype).removeprefix("torch.")
        assert dtype in DTYPES, f"{name}: arrays of {dtype} cannot be stored"
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        self._add(name, flat.numpy().data, dtype, tuple(tensor.shape))

    def add_blob(self, name: str, data: bytes) -> None:
        """Write bytes now."""
        self._add(name, memoryview(data), None, ())

    def set_meta(self, meta: dict[str, Any]) -> None:
        """Set the JSON object that describes the contents; the last one counts."""
        self._meta = meta

    def _add(self, name: str, data: memoryview, dtype: str | None, shape: tuple[int, ...]) -> None:
        assert name not in self._items, f"{name} is already in the file"
        try:
            self._file.write(bytes(-self._at % ALIGNMENT))
            start = self._at + -self._at % ALIGNMENT
            digest = sha256()
            for first in range(0, len(data), HASH_BYTES):
                part = data[first : first + HASH_BYTES]
                digest.update(part)
                self._file.write(part)
        except OSError as refusal:
            raise ModelLoadError(f"{self.path} cannot be written: {refusal}") from refusal
        self._items[name] = Item(start, len(data), digest.hexdigest(), dtype, shape)
        self._at = start + len(data)

    def _finish(self) -> None:
        items = {name: item._asdict() for name, item in self._items.items()}
        index = json.dumps({"meta": self._meta, "items": items}, ensure_ascii=False, allow_nan=False).encode()
        fields = FIELDS.pack(MAGIC, *self._head, self._at + len(index), self._at, len(index))
        self._file.write(index)
        self._file.seek(0)
        self._file.write(fields + sha256(fields + index).digest())
        self._file.flush()
        # Without it a power cut may leave the new name on a file whose data never reached the disk.
        os.fsync(self._file.fileno())
        self._file.close()
        self._check_target()
        os.replace(self._unfinished, self.path)

    def _discard(self) -> None:
        with suppress(OSError):  # a full disk refuses the last buffer too, which is thrown away anyhow
            self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _check_target(self) -> None:
        if not self.overwrite and self.path.exists():
            raise ModelLoadError(f"{self.path} exists already; remove it or choose another name")


class Container:
    """A file mapped into memory. Its arrays are views on the map and are for reading only.

    Attributes:
        meta: the JSON object that the writer set.
        names: of arrays and blobs, as written.
        version: of the file's kind.
    """

    def __init__(self, path: Path, data: mmap.mmap, version: int, meta: dict[str, Any], items: Mapping[str, Item]):
        self.path, self.version, self.meta = path, version, meta
        self._data, self._items = data, items
        self._bytes = torch.frombuffer(data, dtype=torch.uint8)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._items)

    def array(self, name: str) -> Tensor:
        """The array of that name.

        Raises:
            ModelLoadError: the file holds no such array.
        """
        item = self._items.get(name)
        if item is None or item.dtype is None:
            raise ModelLoadError(f"{self.path} holds no array {name!r}; make the file again")
        flat = self._bytes[item.start : item.start + item.length]
        return flat.view(DTYPES[item.dtype]).view(item.shape)

    def blob(self, name: str) -> bytes:
        """The bytes of that name.

        Raises:
            ModelLoadError: the file holds no such blob.
        """
        item = self._items.get(name)
        if item is None or item.dtype is not None:
            raise ModelLoadError(f"{self.path} holds no blob {name!r}; make the file again")
        return self._data[item.start : item.start + item.length]

    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Compare every byte with what the writer wrote.

        Args:
            on_progress: called with bytes done and bytes in all, after each array or blob.

        Raises:
            ModelLoadError: bytes changed; names the first array or blob, in the order of the file.
        """
        total_bytes, done_bytes = sum(item.length for item in self._items.values()), 0
        ordered = sorted(self._items.items(), key=lambda pair: pair[1].start)
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            digests = pool.map(self._digest, [item for _, item in ordered])
            for (name, item), digest in zip(ordered, digests, strict=True):
                if digest != item.sha256:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise ModelLoadError(
                        f"{self.path} is damaged: the bytes of {name!r} are not those that were written; make or "
                        "fetch the file again"
                    )
                done_bytes += item.length
                if on_progress:
                    on_progress(done_bytes, total_bytes)

    def verify_in_background(self) -> Callable[[], None]:
        """Start ``verify`` in a thread; what is given back waits for it, and raises what it raised."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="novelscope-verify")
        running = pool.submit(self.verify)
        pool.shutdown(wait=False)
        return running.result

    def _digest(self, item: Item) -> str:
        digest = sha256()
        self._advise("MADV_WILLNEED", item.start, item.start + item.length)
        with memoryview(self._data) as view:
            for first in range(item.start, item.start + item.length, HASH_BYTES):
                digest.update(view[first : min(first + HASH_BYTES, item.start + item.length)])
        # What was only hashed need not stay in this process's memory: an embedding, say, is read row by row.
        self._advise("MADV_DONTNEED", item.start, item.start + item.length)
        return digest.hexdigest()

    def _advise(self, advice: str, start: int, stop: int) -> None:
        """Tell the system how a range of the map will be used, where it can be told."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = stop // mmap.PAGESIZE * mmap.PAGESIZE - first
        if hasattr(mmap, advice) and length > 0:
            self._data.madvise(getattr(mmap, advice), first, length)


def open_container(path: Path, *, kind: str, version: int) -> Container:
    """The file, mapped, with its index checked; the data is checked by ``Container.verify``.

    Args:
        version: the newest one that the caller understands.

    Raises:
        UnknownModel: there is no such file.
        ModelLoadError: the file is of another kind, newer, too short, or damaged.
    """
    if not path.is_file():
        raise UnknownModel(f"{path} is not a file; give a file that exists")
    try:
        with path.open("rb") as file:
            head = file.read(DATA_START)
            found_version, length, index_start, index_length = _read_head(path, head, kind, version)
            size = file.seek(0, os.SEEK_END)
            if size != length:
                state = "cut off" if size < length else "not as it was written"
                raise ModelLoadError(f"{path} is {state}: it has {size} bytes, wanted {length}; fetch it again")
            # A private map lets torch take it for writable without a warning, and no write can reach the file.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as refusal:
        raise ModelLoadError(f"{path} cannot be read: {refusal}") from refusal
    index = data[index_start : index_start + index_length]
    fields, digest = head[: FIELDS.size], head[FIELDS.size : FIELDS.size + DIGEST_BYTES]
    if (
        index_start + index_length != size
        or sha256(fields + index).digest() != digest
        or any(head[FIELDS.size + DIGEST_BYTES :])
    ):
        raise ModelLoadError(f"{path} is damaged: its index does not match its checksum; fetch it again")
    try:
        described = json.loads(index)
        items = {name: Item(**{**item, "shape": tuple(item["shape"])}) for name, item in described["items"].items()}
        _check_ranges(items, index_start)
        return Container(path, data, found_version, dict(described["meta"]), items)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:
        raise ModelLoadError(f"{path} has an index that cannot be used ({wrong}); make the file again") from wrong


def _read_head(path: Path, head: bytes, kind: str, version: int) -> tuple[int, int, int, int]:
    if head[: len(MAGIC)] != MAGIC:
        raise ModelLoadError(f"{path} is not a novelscope file: its first bytes are {head[:8]!r}, wanted {MAGIC!r}")
    if len(head) < DATA_START:
        raise ModelLoadError(
            f"{path} is cut off: it has {len(head)} bytes, wanted {DATA_START} or more; fetch it again"
        )
    _, padded_kind, found_version, length, index_start, index_length = FIELDS.unpack_from(head)
    found_kind = padded_kind.rstrip(b"\0").decode("ascii", "backslashreplace")
    if found_kind != kind:
        raise ModelLoadError(f"{path} is a file of kind {found_kind!r}, wanted {kind!r}; give another file")
    if not 0 < found_version <= version:
        raise ModelLoadError(
            f"{path} is of version {found_version} and this program reads up to {version}; update it, or make the "
            "file again"
        )
    return found_version, length, index_start, index_length


def _check_ranges(items: Mapping[str, Item], index_start: int) -> None:
    end = DATA_START
    for name, item in sorted(items.items(), key=lambda pair: pair[1].start):
        numbers = (item.start, item.length, *item.shape)
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"{name!r} has sizes that are no sizes")
        if item.start < end or item.start + item.length > index_start or item.start % ALIGNMENT:
            raise ValueError(f"{name!r} stands where it cannot")
        if item.dtype is not None and prod(item.shape) * DTYPES[item.dtype].itemsize != item.length:
            raise ValueError(f"{name!r} has {item.length} bytes, which do not fill its shape")
        end = item.start + item.length
