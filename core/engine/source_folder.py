"""Read a Hugging Face checkpoint folder: settings, small files, and weights in safetensors or torch files.

Code of a checkpoint is never run: torch files are opened with ``weights_only``. One shard is open at a time. Packed
weights come out as they are stored; ``core.engine.packed_releases`` unpacks them.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from core.engine.safetensors_header import read_safetensors_header
from core.engine.sources import TensorEntry
from core.errors import ModelLoadError

__all__ = ["FolderSource"]

SIDE_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "ice_text.model", "spiece.model"),
    *("generation_config.json", "quantize_config.json", "chat_template.jinja", "chat_template.json"),
)
MAX_SIDE_BYTES = 64 << 20
FAMILIES = {".safetensors": "model.safetensors", ".bin": "pytorch_model.bin"}
# What trainers leave beside the weights, with the same ending.
NOT_WEIGHTS = {"training_args.bin", "optimizer.bin", "scheduler.bin", "random_states_0.bin", "rng_state.bin"}
SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(safetensors|bin)")
ZIP_MAGIC = b"PK"  # torch files older than torch 1.6 are bare pickles, which cannot be mapped


class FolderSource:
    """A checkpoint folder as a ``WeightSource``.

    Raises:
        ModelLoadError: files are missing, damaged or contradict each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: Mapping[str, Any] = _read_object(path / "config.json", "give the folder of a whole checkpoint")
        self.files: Mapping[str, bytes] = dict(_side_files(path))
        shards, index = _find_shards(path)
        self.entries: Mapping[str, TensorEntry] = _collect(path, shards, index)
        self.num_bytes = sum(entry.num_bytes for entry in self.entries.values())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and values of each tensor, shard by shard."""
        for shard in dict.fromkeys(entry.shard for entry in self.entries.values()):
            wanted = [name for name, entry in self.entries.items() if entry.shard == shard]
            read = _read_safetensors if shard.endswith(".safetensors") else _read_torch
            for name, tensor in read(self.path / shard, wanted):
                entry = self.entries[name]
                if tuple(tensor.shape) != entry.shape or tensor.dtype != entry.dtype:
                    raise ModelLoadError(f"{self.path / shard} changed while it was read; load the model again")
                yield name, tensor
            del tensor  # its mapping, before the next shard is opened


def _read_object(path: Path, cure: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelLoadError(f"{path.parent} holds no {path.name}; {cure}")
    try:
        found = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as wrong:
        raise ModelLoadError(f"{path} cannot be read as JSON ({wrong}); fetch it again") from wrong
    if not isinstance(found, dict):
        raise ModelLoadError(f"{path} holds a {type(found).__name__}, wanted a JSON object; fetch it again")
    return found


def _side_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in SIDE_FILES:
        path = folder / name
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                content = file.read(MAX_SIDE_BYTES + 1)
        except OSError as refusal:
            raise ModelLoadError(f"{path} cannot be read: {refusal}") from refusal
        if len(content) > MAX_SIDE_BYTES:
            raise ModelLoadError(
                f"{path} has more than {MAX_SIDE_BYTES} bytes, which no tokenizer needs; fetch it again"
            )
        yield name, content


def _find_shards(folder: Path) -> tuple[list[str], dict[str, str] | None]:
    """Names of the files that hold the weights, and from an index, if there is one, the file of each tensor."""
    for ending, usual in FAMILIES.items():
        if (folder / usual).is_file():
            return [usual], None
        indices = sorted(path.name for path in folder.glob(f"*{ending}.index.json"))
        index = f"{usual}.index.json"
        if index in indices or len(indices) == 1:
            weight_map = _read_index(folder / (index if index in indices else indices[0]), ending)
            return list(dict.fromkeys(weight_map.values())), weight_map
        names = sorted(path.name for path in folder.glob(f"*{ending}") if path.name not in NOT_WEIGHTS)
        is_one_set = _is_one_set(folder, names) or len(names) < 2
        if len(indices) > 1 or not is_one_set:
            raise ModelLoadError(
                f"{folder} holds several sets of weights ({', '.join(indices or names)}); keep one of them"
            )
        if names:
            return names, None
    raise ModelLoadError(f"{folder} holds no weights (*.safetensors or *.bin); fetch the whole checkpoint")


def _is_one_set(folder: Path, names: list[str]) -> bool:
    """Whether the names are shards of one whole."""
    matches = [match for name in names if (match := SHARD_NAME.fullmatch(name))]
    if not names or len(matches) < len(names) or len({(match["stem"], match["count"]) for match in matches}) > 1:
        return False
    count, numbers = int(matches[0]["count"]), {int(match["number"]) for match in matches}
    if missing := sorted(set(range(1, count + 1)) - numbers):
        raise ModelLoadError(f"{folder} lacks shard {missing[0]} of {count} of the weights; fetch the whole checkpoint")
    return True


def _read_index(path: Path, ending: str) -> dict[str, str]:
    try:
        described = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_one_claim_each)
    except (OSError, ValueError, RecursionError) as wrong:
        raise ModelLoadError(f"{path} cannot be used as an index ({wrong}); fetch it again") from wrong
    weight_map = described.get("weight_map") if isinstance(described, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadError(f"{path} has no weight_map that names files; fetch it again")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or re.search(r"[/\\\0]|^\.", shard) or not shard.endswith(ending):
            raise ModelLoadError(
                f"{path} puts the tensor {tensor!r} into {shard!r}, wanted the name of a {ending} file in the same "
                "folder; fetch the index again"
            )
        if not (path.parent / shard).is_file():
            raise ModelLoadError(
                f"{path} puts the tensor {tensor!r} into {shard!r}, which is missing; fetch the whole checkpoint"
            )
    return weight_map


def _one_claim_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError(f"both {found[name]!r} and {value!r} claim {name!r}")
    return found


def _collect(folder: Path, shards: list[str], index: dict[str, str] | None) -> dict[str, TensorEntry]:
    entries: dict[str, TensorEntry] = {}
    for shard in shards:
        path = folder / shard
        held = read_safetensors_header(path) if shard.endswith(".safetensors") else _describe_torch(path)
        for name, entry in held.items():
            if index is not None and index.get(name) != shard:
                continue  # the index decides; what it does not name is not part of the model
            if name in entries:
                raise ModelLoadError(
                    f"{path} and {entries[name].shard} both hold the tensor {name!r}; keep one of them"
                )
            entries[name] = entry
        if index is not None and (lost := next((n for n, s in index.items() if s == shard and n not in held), None)):
            raise ModelLoadError(f"{path} lacks the tensor {lost!r} that the index puts there; fetch the file again")
    if not entries:
        raise ModelLoadError(f"{folder / shards[0]} holds no tensors; fetch the whole checkpoint")
    return entries


def _read_safetensors(path: Path, wanted: list[str]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in wanted:
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as damage:
        raise ModelLoadError(f"{path} cannot be read: {_first_line(damage)}; fetch it again") from damage


def _read_torch(path: Path, wanted: list[str]) -> Iterator[tuple[str, Tensor]]:
    held = _load_torch(path, "cpu")
    for name in wanted:
        tensor = held.pop(name, None)  # popped, so that a tensor the caller drops is freed before the next
        if tensor is None:
            raise ModelLoadError(f"{path} changed while it was read; load the model again")
        yield name, tensor


def _describe_torch(path: Path) -> dict[str, TensorEntry]:
    held = _load_torch(path, "meta")
    return {name: TensorEntry(name, tuple(tensor.shape), tensor.dtype, path.name) for name, tensor in held.items()}


def _load_torch(path: Path, device: str) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
            warnings.simplefilter("ignore")  # torch wonders about pickle protocols before it refuses them
            held = torch.load(path, map_location=device, weights_only=True, mmap=is_zip)
    except UnpicklingError as refusal:
        raise ModelLoadError(
            f"{path} is damaged, or holds more than tensors and would run code ({_reason(refusal)}); use a "
            "safetensors release"
        ) from refusal
    except Exception as damage:  # a damaged pickle may fail in whatever its opcodes reach
        raise ModelLoadError(f"{path} is cut off or damaged: {_first_line(damage)}; fetch it again") from damage
    if not isinstance(held, dict):
        raise ModelLoadError(f"{path} holds a {type(held).__name__}, wanted tensors by name; use another release")
    for name, tensor in held.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ModelLoadError(
                f"{path}: the entry {name!r} is a {type(tensor).__name__}, wanted a dense tensor; use another release"
            )
    return {name: tensor.detach() for name, tensor in held.items()}


def _reason(refusal: Exception) -> str:
    """The line of torch's advice that names what it refused."""
    lines = [line.strip() for line in str(refusal).splitlines()]
    named = (line for line in lines if line.startswith(("WeightsUnpickler error", "Unsupported", "Trying")))
    return next(named, _first_line(refusal))[:160]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
