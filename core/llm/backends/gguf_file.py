"""The plain values and the tensors of a GGUF file.

The gguf package has a reader too, which makes Python objects of each vocabulary entry and takes ten seconds for Gemma;
here lists are skipped. Its unpacking of blocks is used. Nothing here knows a model.

Source:
    github.com/ggml-org/ggml, docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MissingExtra, ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GGUFFile", "TensorInfo", "read_gguf"]

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, LIST = 8, 9
MAX_DIMS = 4


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor stands.

    Attributes:
        shape: as torch counts, rows first.
        kind: the number of its block type.
        start: offset of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """What a file says of itself: plain values by key (lists left out), and its tensors by name."""

    path: Path
    values: dict[str, Any]
    tensors: dict[str, TensorInfo]

    def widen(self, tensor: TensorInfo) -> NDArray[np.float32]:
        """The tensor's values, in its shape, as an array of its own.

        Raises:
            ModelLoadError: the file ends inside the tensor, or its block type is unknown.
        """
        import numpy as np

        try:
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
        except ModuleNotFoundError as missing:
            raise MissingExtra("reading a .gguf file needs the gguf package: pip install gguf") from missing
        try:
            kind = GGMLQuantizationType(tensor.kind)
            block_values, block_bytes = GGML_QUANT_SIZES[kind]
            row_bytes = tensor.shape[-1] // block_values * block_bytes
            num_rows = prod(tensor.shape[:-1])
            packed = np.memmap(self.path, np.uint8, "r", offset=tensor.start, shape=(num_rows, row_bytes))
            return np.array(dequantize(packed, kind), dtype=np.float32).reshape(tensor.shape)
        except (ValueError, KeyError, NotImplementedError, OSError) as wrong:
            raise ModelLoadError(f"{self.path}: the tensor {tensor.name!r} cannot be unpacked: {wrong}") from wrong


def read_gguf(path: Path) -> GGUFFile:
    """The header of a GGUF file.

    Raises:
        ModelLoadError: it is not a GGUF file, or ends too early.
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
        """A plain value; None for a list, which is passed over."""
        if kind == STRING:
            return self.text()
        if kind != LIST:
            return self.take(FORMATS[kind])
        item_kind, count = self.take("I"), self.take("Q")
        if item_kind == STRING:
            for _ in range(count):
                self.skip(self.take("Q"))
        elif item_kind == LIST:
            for _ in range(count):
                self.value(LIST)
        else:
            self.skip(count * struct.calcsize("<" + FORMATS[item_kind]))
        return None


def _parse(path: Path, cursor: _Cursor) -> GGUFFile:
    num_tensors, num_values = cursor.take("Q"), cursor.take("Q")
    values: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.text()
        value = cursor.value(cursor.take("I"))
        if value is not None:
            values[key] = value
    found = []
    for _ in range(num_tensors):
        name, num_dims = cursor.text(), cursor.take("I")
        if not 0 < num_dims <= MAX_DIMS:
            raise ValueError(f"tensor {name!r} has {num_dims} dimensions")
        sizes = [cursor.take("Q") for _ in range(num_dims)]
        found.append(TensorInfo(name, tuple(reversed(sizes)), cursor.take("I"), cursor.take("Q")))
    alignment = values.get("general.alignment", ALIGNMENT)
    start = -(-cursor.at // alignment) * alignment
    placed = (TensorInfo(info.name, info.shape, info.kind, start + info.start) for info in found)
    return GGUFFile(path, values, {info.name: info for info in placed})
