"""The header of a safetensors file, checked against the file's length before a byte of data is read.

The safetensors library checks too, but says only that something is wrong; here the message names the tensor.

Source:
    github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import torch

from core.engine.sources import TensorEntry
from core.errors import ModelLoadError

__all__ = ["read_safetensors_header"]

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a file by name, in the order of their data.

    Raises:
        ModelLoadError: the file is cut off, or its header is damaged or describes data that cannot be there.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= header_bytes <= MAX_HEADER_BYTES or 8 + header_bytes > size:
                raise ModelLoadError(
                    f"{path} is cut off or no safetensors file: {size} bytes cannot hold a header of {header_bytes}; "
                    "fetch it again"
                )
            header = json.loads(file.read(header_bytes).decode("utf-8"), object_pairs_hook=_unique)
    except OSError as refusal:
        raise ModelLoadError(f"{path} cannot be read: {refusal}") from refusal
    except (ValueError, RecursionError) as wrong:
        raise ModelLoadError(f"{path} has a damaged header ({wrong}); fetch it again") from wrong
    if not isinstance(header, dict):
        raise ModelLoadError(f"{path} has a header that is no JSON object; fetch it again")
    header.pop("__metadata__", None)
    ranges = {name: (*_range(path, name, described), described) for name, described in header.items()}
    entries, end = {}, 0
    for name, (start, stop, described) in sorted(ranges.items(), key=lambda pair: pair[1][:2]):
        if start != end:
            raise ModelLoadError(
                f"{path}: the tensor {name!r} starts at byte {start} of the data, wanted {end}, so tensors overlap or "
                "leave gaps; fetch the file again"
            )
        if 8 + header_bytes + stop > size:
            raise ModelLoadError(
                f"{path} is cut off: the tensor {name!r} ends at byte {8 + header_bytes + stop} and the file at "
                f"{size}; fetch it again"
            )
        entries[name] = TensorEntry(name, tuple(described["shape"]), DTYPES[described["dtype"]], path.name)
        end = stop
    if 8 + header_bytes + end != size:
        raise ModelLoadError(
            f"{path} has {size} bytes and its header describes {8 + header_bytes + end}; fetch the file again"
        )
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _range(path: Path, name: str, described: Any) -> tuple[int, int]:
    """Where the tensor's data begins and ends, counted from the end of the header."""
    if not isinstance(described, dict) or not {"dtype", "shape", "data_offsets"} <= described.keys():
        raise ModelLoadError(f"{path}: the header does not describe the tensor {name!r}; fetch the file again")
    dtype, shape, offsets = (described[field] for field in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelLoadError(
            f"{path}: the tensor {name!r} has dtype {dtype!r}, wanted one of {', '.join(DTYPES)}; use another release"
        )
    is_sound = all(
        isinstance(numbers, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
        for numbers in (shape, offsets)
    )
    if not is_sound or len(offsets) != 2 or prod(shape) * DTYPES[dtype].itemsize != offsets[1] - offsets[0]:
        raise ModelLoadError(
            f"{path}: the tensor {name!r} of dtype {dtype} and shape {shape!r} cannot fill bytes {offsets!r} of the "
            "data; fetch the file again"
        )
    return offsets[0], offsets[1]
