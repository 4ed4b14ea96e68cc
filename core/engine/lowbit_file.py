"""Our own model file: weights as the engine multiplies them, configuration, tokenizer and prompt format in one.

Weights are mapped, not read; rounding happened when the file was made, so logits are the same to the last bit. Nothing
here knows a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.engine.container import ContainerWriter, open_container
from core.engine.cuda_weights import on_device
from core.engine.int4_weight import Int4Weight
from core.engine.int8_weight import Int8Weight
from core.engine.loading import CPU, LoadedWeights, home_of, use_of
from core.engine.weights import FloatWeight, Use, Weight
from core.errors import ModelLoadError, SettingsError
from core.model.config import DecoderConfig, PrefixConfig, RotaryConfig

__all__ = ["SUFFIX", "Description", "StoredModel", "is_lowbit_file", "read_description", "read_lowbit", "write_lowbit"]

KIND, VERSION, SUFFIX = "novelscope-model", 1, ".nscope"
CHECKED_FIRST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What a file holds.

    Attributes:
        published: the checkpoint's own configuration.
        files: its tokenizer and prompt files, by name.
    """

    weights: LoadedWeights
    bits: int
    name: str
    published: Mapping[str, Any]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Description:
    """What a file says of its model.

    Attributes:
        weight_bytes: of all matrices.
        published: the checkpoint's own configuration.
        files: its tokenizer and prompt files, by name.
    """

    config: DecoderConfig
    bits: int
    weight_bytes: int
    published: Mapping[str, Any]
    files: Mapping[str, bytes]


def write_lowbit(
    path: Path,
    loaded: LoadedWeights,
    *,
    bits: int,
    name: str,
    published: Mapping[str, Any],
    files: Mapping[str, bytes],
    overwrite: bool = False,
) -> None:
    """Write a model; the file appears whole or not at all.

    Raises:
        ModelLoadError: there is a file already, or the disk refuses.
    """
    with ContainerWriter(path, kind=KIND, version=VERSION, overwrite=overwrite) as writer:
        shapes = {}
        for target, weight in loaded.weights.items():
            shapes[target] = {"kind": weight.kind, "rows": weight.rows, "columns": weight.columns}
            for part, array in weight.arrays().items():
                writer.add_array(f"{target}:{part}", array)
        for target, vector in loaded.vectors.items():
            writer.add_array(target, vector)
        for file_name, data in files.items():
            writer.add_blob(f"file:{file_name}", data)
        writer.set_meta(
            {
                "name": name,
                "bits": bits,
                "config": asdict(loaded.config),
                "published": dict(published),
                "weights": shapes,
                "vectors": list(loaded.vectors),
                "files": list(files),
            }
        )


def is_lowbit_file(path: Path) -> bool:
    """Whether the path names a file of ours; its content is checked when it is read."""
    return path.suffix == SUFFIX and path.is_file()


def read_lowbit(
    path: Path,
    *,
    bits: int | None = None,
    device: torch.device = CPU,
    low_memory: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> StoredModel:
    """The model in a file, its weights mapped and every byte checked against its checksum.

    A file of more than a gigabyte is checked in the background, so that it opens at once even from a slow disk; whoever
    computes with it waits for the check before results are given away.

    Args:
        bits: the width that is wanted; None takes what the file has.
        device: where the numbers shall lie; on a CPU they stay in the file.
        low_memory: an embedding that is no output head stays in the file.

    Raises:
        ModelLoadError: it is not such a file, is truncated or altered, or a later version wrote it.
        SettingsError: its weights have another width.
    """
    container = open_container(path, kind=KIND, version=VERSION)
    meta = container.meta
    if bits is not None and bits != meta.get("bits"):
        raise SettingsError(
            f"{path.name} holds weights of {meta.get('bits')} bits, not {bits}; quantize the original anew"
        )
    wait_until_checked = None
    if device.type == "cpu" and path.stat().st_size > CHECKED_FIRST_BYTES:
        wait_until_checked = container.verify_in_background()
    else:
        container.verify(on_progress=on_progress)
    with _whole_description(path):
        config = _config(meta["config"])
        weights = {}
        for target, shape in meta["weights"].items():
            arrays = _parts(container.names, f"{target}:", container.array)
            use = use_of(target, config)
            # On its way to a GPU a matrix needs no layout for the CPU's products.
            form = _restore(
                shape["kind"],
                arrays,
                rows=shape["rows"],
                columns=shape["columns"],
                use=use if device.type == "cpu" else "rows",
            )
            weights[target] = on_device(form, home_of(target, config, device, low_memory=low_memory), use=use)
        vectors = {target: container.array(target).to(device) for target in meta["vectors"]}
        files = {name: container.blob(f"file:{name}") for name in meta["files"]}
        return StoredModel(
            LoadedWeights(config, weights, vectors, wait_until_checked),
            int(meta["bits"]),
            str(meta["name"]),
            meta["published"],
            files,
        )


def read_description(path: Path) -> Description:
    """What a file says of its model; the weights are neither read nor checked.

    Raises:
        ModelLoadError: as ``read_lowbit``.
    """
    container = open_container(path, kind=KIND, version=VERSION)
    meta = container.meta
    with _whole_description(path):
        files = {name: container.blob(f"file:{name}") for name in meta["files"]}
        weight_bytes = sum(
            container.array(name).nbytes for name in container.names if name.partition(":")[0] in meta["weights"]
        )
        return Description(_config(meta["config"]), int(meta["bits"]), weight_bytes, meta["published"], files)


@contextmanager
def _whole_description(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as wrong:
        raise ModelLoadError(
            f"{path} does not describe its model fully ({wrong}); quantize the original anew"
        ) from wrong


def _parts(names: tuple[str, ...], front: str, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(front): read(name) for name in names if name.startswith(front)}


def _config(fields: Mapping[str, Any]) -> DecoderConfig:
    values = dict(fields)
    for name in ("rotary", "local_rotary"):
        if values[name] is not None:
            values[name] = RotaryConfig(**{key: _frozen(value) for key, value in values[name].items()})
    if values["prefix"] is not None:
        values["prefix"] = PrefixConfig(**values["prefix"])
    return DecoderConfig(**{key: _frozen(value) for key, value in values.items()})


def _frozen(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _restore(kind: str, arrays: Mapping[str, Tensor], *, rows: int, columns: int, use: Use) -> Weight:
    """The weight whose ``arrays`` these are, mapped from a file."""
    if kind == "float":
        return FloatWeight(arrays["matrix"])
    if kind == "int8":
        scales = arrays.get("column_scale")
        return Int8Weight(
            arrays["codes"], arrays["scale"], arrays["zero"], use=use, column_scale=scales, is_mapped=True
        )
    return Int4Weight(arrays["packed"], arrays["pairs"], rows=rows, columns=columns)
