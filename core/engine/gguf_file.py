"""The plain values, the lists and the tensors of a GGUF file.

The gguf package has a reader too, which makes Python objects of each vocabulary entry and takes ten seconds for Gemma;
here a list is read when it is asked for. Its unpacking of blocks is used. Nothing here knows a model.

Source:
    github.com/ggml-org/ggml, docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MissingExtra, ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BLOCKS", "GGUFFile", "ListInfo", "TensorInfo", "read_gguf"]

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, LIST = 8, 9
MAX_DIMS = 4
LENGTH = struct.Struct("<Q")

# Block type -> (values, bytes) of a block; ggml's own numbers. A copy, since importing gguf takes longer than the rest.
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2)},
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)},
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor stands.

    Attributes:
        shape: as torch counts, rows first.
        kind: the number of its block type, a key of ``BLOCKS``.
        start: offset of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int

    @property
    def num_rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        block_values, block_bytes = BLOCKS[self.kind]
        return self.shape[-1] // block_values * block_bytes


@dataclass(frozen=True, slots=True)
class ListInfo:
    """Where the items of a list stand, and of which kind they are."""

    item_kind: int
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """What a file says of itself: plain values and lists by key, and its tensors by name."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, TensorInfo]
    lists: dict[str, ListInfo] = field(default_factory=dict)

    def list(self, key: str) -> list[Any]:
        """The items of a list, read from the file now.

        Raises:
            ModelLoadError: the file has no list of this name, or a string in it is no UTF-8.
        """
        if key not in self.lists:
            raise ModelLoadError(f"{self.path} holds no list {key!r}; give another file")
        info = self.lists[key]
        if info.item_kind != STRING:
            return self.numbers(key).tolist()
        found, at, unpack = [], info.start, LENGTH.unpack_from
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                for _ in range(info.count):
                    start = at + 8
                    at = start + unpack(data, at)[0]
                    found.append(data[start:at].decode())
            except (struct.error, UnicodeDecodeError) as wrong:
                raise ModelLoadError(f"{self.path}: the list {key!r} is damaged ({wrong}); fetch it again") from wrong
        return found

    def numbers(self, key: str) -> NDArray[Any]:
        """The items of a list of numbers, as an array of its own.

        Raises:
            ModelLoadError: the file has no list of this name, or it holds no numbers.
        """
        import numpy as np

        info = self.lists.get(key)
        if info is None or info.item_kind not in FORMATS:
            raise ModelLoadError(f"{self.path} holds no list of numbers {key!r}; give another file")
        item = np.dtype("<" + FORMATS[info.item_kind])
        with self.path.open("rb") as file:
            file.seek(info.start)
            return np.frombuffer(file.read(info.count * item.itemsize), item)

    def packed(self, tensor: TensorInfo) -> np.memmap[Any, np.dtype[np.uint8]]:
        """The tensor's blocks as they stand in the file, bytes of (rows, bytes of a row)."""
        import numpy as np

        shape = (tensor.num_rows, tensor.row_bytes)
        return np.memmap(self.path, np.uint8, "r", offset=tensor.start, shape=shape)

    def widen(self, tensor: TensorInfo) -> NDArray[np.float32]:
        """The tensor's values, in its shape, as an array of its own.

        Raises:
            ModelLoadError: nothing unpacks its block type.
        """
        import numpy as np

        try:
            from gguf import GGMLQuantizationType, dequantize
        except ModuleNotFoundError as missing:
            raise MissingExtra("reading a .gguf file needs the gguf package: pip install gguf") from missing
        try:
            values = dequantize(self.packed(tensor), GGMLQuantizationType(tensor.kind))
            return np.array(values, dtype=np.float32).reshape(tensor.shape)
        except (ValueError, KeyError, NotImplementedError, OSError) as wrong:
            raise ModelLoadError(f"{self.path}: the tensor {tensor.name!r} cannot be unpacked: {wrong}") from wrong


def read_gguf(path: Path) -> GGUFFile:
    """The header of a GGUF file.

    Raises:
        ModelLoadError: it is not a GGUF file, is damaged, or ends inside a tensor, which the message names.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or head[:4] != MAGIC or struct.unpack("<I", head[4:])[0] not in VERSIONS:
            raise ModelLoadError(f"{path} is not a GGUF file of version 2 or 3; fetch it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _parse(path, _Cursor(data))
        except (struct.error, KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as wrong:
            raise ModelLoadError(f"{path} is a damaged GGUF file ({wrong}); fetch it again") from wrong


class _Cursor:
    """Reads one thing after another and never beyond the end."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = data, len(MAGIC) + 4

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, num_bytes: int) -> None:
        self.at += num_bytes
        if self.at > len(self.data):
            raise ValueError("it ends too early")

    def text(self) -> str:
        length = self.take("Q")
        start = self.at
        self.skip(length)
        return bytes(self.data[start : self.at]).decode("utf-8")

    def value(self, kind: int) -> Any:
        """A plain value; of a list only where it stands."""
        if kind == STRING:
            return self.text()
        if kind != LIST:
            return self.take(FORMATS[kind])
        info = ListInfo(self.take("I"), self.take("Q"), self.at)
        if info.item_kind == STRING:
            data, at, unpack = self.data, self.at, LENGTH.unpack_from
            for _ in range(info.count):
                at += 8 + unpack(data, at)[0]
            self.skip(at - self.at)
        elif info.item_kind == LIST:
            for _ in range(info.count):
                self.value(LIST)
        else:
            self.skip(info.count * struct.calcsize("<" + FORMATS[info.item_kind]))
        return info


def _parse(path: Path, cursor: _Cursor) -> GGUFFile:
    num_tensors, num_values = cursor.take("Q"), cursor.take("Q")
    found: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.text()
        found[key] = cursor.value(cursor.take("I"))
    heads = []
    for _ in range(num_tensors):
        name, num_dims = cursor.text(), cursor.take("I")
        if not 0 < num_dims <= MAX_DIMS:
            raise ValueError(f"tensor {name!r} has {num_dims} dimensions")
        sizes = [cursor.take("Q") for _ in range(num_dims)]
        heads.append((name, tuple(reversed(sizes)), cursor.take("I"), cursor.take("Q")))
    alignment = found.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"its alignment is {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in heads:
        if name in tensors:
            raise ValueError(f"two tensors are named {name!r}")
        tensors[name] = TensorInfo(name, shape, kind, start + offset)
        _check_tensor(tensors[name], len(cursor.data))
    lists = {key: value for key, value in found.items() if isinstance(value, ListInfo)}
    values = {key: value for key, value in found.items() if key not in lists}
    return GGUFFile(path, values, tensors, lists)


def _check_tensor(tensor: TensorInfo, file_bytes: int) -> None:
    if tensor.kind not in BLOCKS:
        raise ValueError(f"the tensor {tensor.name!r} is of block type {tensor.kind}, which is not known")
    if 0 in tensor.shape or tensor.shape[-1] % BLOCKS[tensor.kind][0]:
        raise ValueError(f"the tensor {tensor.name!r} of shape {tensor.shape} does not consist of whole blocks")
    if tensor.start + tensor.num_rows * tensor.row_bytes > file_bytes:
        raise ValueError(f"it ends inside the tensor {tensor.name!r}")
