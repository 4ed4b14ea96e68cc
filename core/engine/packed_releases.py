"""Show a release with packed weights as if its weights were ordinary: ChatGLM's int4 and int8, and GPTQ as MOSS has it.

Names, shapes and dtypes are those of the unpacked matrix, which is float32, since the product of a half-precision scale
and a code of 8 bits needs more than half precision. A matrix is unpacked when its last part has been read.

Source:
    ChatGLM: symmetric per row, w = q * scale; of two 4-bit values in a byte the even column has the high nibble.
    GPTQ, arXiv:2210.17323, in the layout of GPTQ-for-LLaMa: w[in, out] = scale[g] * (q - (zero + 1)), least
    significant bits first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.engine.sources import TensorEntry, WeightSource
from core.errors import ModelLoadError

__all__ = ["UnpackedSource", "unpacked"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix to be made from several stored tensors.

    Attributes:
        entry: the matrix as it is shown.
        parts: names of the stored tensors.
        widen: makes the matrix from the parts, given in the order of ``parts``.
    """

    entry: TensorEntry
    parts: tuple[str, ...]
    widen: Callable[[list[Tensor]], Tensor]


def unpacked(source: WeightSource) -> WeightSource:
    """The same source if nothing in it is packed, else one that unpacks it.

    Raises:
        ModelLoadError: packed weights lack a part, or their parts or settings contradict each other.
    """
    matrices = [*_chatglm_matrices(source), *_gptq_matrices(source)]
    return UnpackedSource(source, matrices) if matrices else source


class UnpackedSource:
    """A ``WeightSource`` over another whose packed matrices come out whole."""

    def __init__(self, source: WeightSource, matrices: list[PackedMatrix]) -> None:
        self._source = source
        self._owners = {part: matrix for matrix in matrices for part in matrix.parts}
        self.path: Path = source.path
        self.config: Mapping[str, Any] = source.config
        self.files: Mapping[str, bytes] = source.files
        shown = {name: entry for name, entry in source.entries.items() if name not in self._owners}
        for matrix in matrices:
            if matrix.entry.name in shown:
                raise ModelLoadError(
                    f"{self.path / matrix.entry.shard} holds {matrix.entry.name!r} both packed and whole; use another "
                    "release"
                )
            shown[matrix.entry.name] = matrix.entry
        self.entries: Mapping[str, TensorEntry] = shown
        self.num_bytes = sum(entry.num_bytes for entry in shown.values())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and values of each tensor, shard by shard, packed ones unpacked."""
        waiting: dict[str, Tensor] = {}
        for name, tensor in self._source.tensors():
            matrix = self._owners.get(name)
            if matrix is None:
                yield name, tensor
            elif all(part == name or part in waiting for part in matrix.parts):
                waiting[name] = tensor
                yield matrix.entry.name, matrix.widen([waiting.pop(part) for part in matrix.parts])
            else:
                waiting[name] = tensor.clone()  # parts may lie in two shards, and the first must not stay mapped


def _chatglm_matrices(source: WeightSource) -> Iterator[PackedMatrix]:
    entries = source.entries
    packed = [entry for name, entry in entries.items() if f"{name}_scale" in entries and entry.dtype == torch.int8]
    if not packed:
        return
    bits = _chatglm_bits(source, packed)
    for entry in packed:
        scale = entries[f"{entry.name}_scale"]
        if len(entry.shape) != 2 or scale.shape != entry.shape[:1] or scale.dtype not in FLOATS:
            raise ModelLoadError(
                f"{source.path / scale.shard}: {scale.name!r} is {scale.dtype} of shape {scale.shape}, wanted one "
                f"float for each row of {entry.name!r} {entry.shape}; fetch the file again"
            )
        shape = (entry.shape[0], entry.shape[1] * 8 // bits)
        shown = replace(entry, shape=shape, dtype=torch.float32)
        yield PackedMatrix(shown, (entry.name, scale.name), _widen_int4_rows if bits == 4 else _widen_int8_rows)


def _chatglm_bits(source: WeightSource, packed: list[TensorEntry]) -> int:
    bits = source.config.get("quantization_bit")
    if not bits:
        # Some releases forget the field. The fused query, key and value matrix reads the hidden state, so its stored
        # width tells.
        hidden_dim = source.config.get("hidden_size")
        width = next((entry.shape[-1] for entry in packed if "query_key_value" in entry.name), None)
        if width and isinstance(hidden_dim, int):
            bits = 8 * width / hidden_dim
    if bits not in (4, 8):
        raise ModelLoadError(
            f"{source.path / 'config.json'}: quantization_bit is {bits!r} and {packed[0].name!r} is packed, wanted 4 "
            "or 8; set it to what the release is"
        )
    return int(bits)


def _widen_int8_rows(parts: list[Tensor]) -> Tensor:
    codes, scale = parts
    return codes.float() * scale.float()[:, None]


def _widen_int4_rows(parts: list[Tensor]) -> Tensor:
    codes, scale = parts
    # Shifts of int8 keep the sign, so moving a nibble to the top and back down widens it.
    pairs = torch.stack((codes >> 4, (codes << 4) >> 4), dim=-1)
    return pairs.reshape(len(codes), -1).float() * scale.float()[:, None]


def _gptq_matrices(source: WeightSource) -> Iterator[PackedMatrix]:
    entries = source.entries
    for name in entries:
        stem, dot, last = name.rpartition(".")
        if last != "qweight":
            continue
        names = [f"{stem}{dot}{part}" for part in ("qweight", "qzeros", "scales", "g_idx")]
        if lost := next((part for part in names[:3] if part not in entries), None):
            raise ModelLoadError(
                f"{source.path / entries[name].shard} holds {name!r} and {lost!r} is missing; fetch the whole "
                "checkpoint"
            )
        parts = [entries[part] for part in names if part in entries]
        num_inputs, num_outputs, bits, group_size = _gptq_layout(source, parts)
        shown = TensorEntry(f"{stem}{dot}weight", (num_outputs, num_inputs), torch.float32, entries[name].shard)
        where = f"{source.path / shown.shard}: {stem}{dot}g_idx"
        yield PackedMatrix(shown, tuple(part.name for part in parts), _gptq_widener(bits, group_size, where))


def _gptq_layout(source: WeightSource, parts: list[TensorEntry]) -> tuple[int, int, int, int]:
    """Inputs, outputs, bits and inputs per group, as the shapes tell them and the settings confirm."""
    codes, zeros, scales, *order = parts
    nested = source.config.get("quantization_config")
    settings = {**(nested if isinstance(nested, dict) else {}), **source.config}
    where = f"{source.path / codes.shard}: the parts of {codes.name!r}"
    shapes = " ".join(f"{part.name.rpartition('.')[2]} {part.dtype} {part.shape};" for part in parts)
    if any(len(part.shape) != 2 or 0 in part.shape for part in parts[:3]):
        raise ModelLoadError(f"{where} are {shapes} wanted three matrices; fetch the file again")
    (num_groups, num_outputs), bits = scales.shape, zeros.shape[1] * 32 // scales.shape[1]
    asked = settings.get("wbits") or settings.get("bits") or bits
    if bits not in (4, 8) or asked != bits:
        raise ModelLoadError(f"{where} have {bits} bits and config.json says {asked!r}, wanted 4 or 8 in both")
    if settings.get("checkpoint_format", "gptq") != "gptq":
        raise ModelLoadError(
            f"{where} are in the format {settings['checkpoint_format']!r}, wanted 'gptq', which stores zeros minus "
            "one; use another release"
        )
    num_inputs = codes.shape[0] * 32 // bits
    asked_size = settings.get("groupsize", settings.get("group_size", -1))
    is_given = type(asked_size) is int and asked_size > 0
    group_size = asked_size if is_given else -(-num_inputs // num_groups)
    wanted = {
        "codes": codes.dtype == torch.int32 and codes.shape[1] == num_outputs,
        "zeros": zeros.dtype == torch.int32 and zeros.shape == (num_groups, num_outputs * bits // 32),
        "scales": scales.dtype in FLOATS and -(-num_inputs // group_size) == num_groups,
        "order": all(part.shape == (num_inputs,) and part.dtype in (torch.int32, torch.int64) for part in order),
    }
    if not all(wanted.values()):
        raise ModelLoadError(
            f"{where} are {shapes} which do not fit each other and groups of {group_size} inputs; fetch the file again"
        )
    return num_inputs, num_outputs, bits, group_size


def _gptq_widener(bits: int, group_size: int, where: str) -> Callable[[list[Tensor]], Tensor]:
    def widen(parts: list[Tensor]) -> Tensor:
        packed_codes, packed_zeros, scales, *order = parts
        codes = _split(packed_codes.T.contiguous(), bits)  # (out, in)
        zeros = _split(packed_zeros, bits).float() + 1  # (groups, out)
        num_inputs = codes.shape[1]
        group = order[0].long() if order else torch.arange(num_inputs) // group_size
        if order and not 0 <= int(group.min()) <= int(group.max()) < len(scales):
            raise ModelLoadError(
                f"{where} names groups {int(group.min())} to {int(group.max())}, wanted 0 to {len(scales) - 1}; fetch "
                "the file again"
            )
        widened = codes.float()
        widened -= zeros.T[:, group]
        widened *= scales.float().T[:, group]
        return widened

    return widen


def _split(words: Tensor, bits: int) -> Tensor:
    """The small numbers in each row of int32 words, uint8, lowest bits first."""
    octets = words.contiguous().view(torch.uint8)
    if bits == 8:
        return octets
    return torch.stack((octets & 15, octets >> 4), dim=-1).reshape(len(octets), -1)
