"""Small checkpoint folders, and the check that a bad one gets one sentence."""

import json

import pytest
import torch
from safetensors.torch import save_file

from core.engine.sources import open_source
from core.errors import ModelLoadError


def some_tensors(seed=0):
    chance = torch.Generator().manual_seed(seed)
    return {
        "model.embed.weight": torch.randn(6, 4, generator=chance),
        "model.norm.weight": torch.randn(4, generator=chance).bfloat16(),
        "model.mask": torch.ones(3, 3, dtype=torch.bool),
        "model.half": torch.randn(2, 3, 4, generator=chance).half(),
    }


def folder_with(path, config=None, **files):
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama"} if config is None else config))
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def split_into_shards(path, ending, tensors):
    """Two shards and their index, as transformers names them."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[ending]
    names, weight_map = list(tensors), {}
    for number, part in enumerate((names[:2], names[2:]), 1):
        shard = f"{stem}-{number:05}-of-00002.{ending}"
        save = save_file if ending == "safetensors" else torch.save
        save({name: tensors[name] for name in part}, path / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = path / (f"{stem}.safetensors.index.json" if ending == "safetensors" else f"{stem}.bin.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def refused(path, *words, error=ModelLoadError):
    """Opening and reading raises one sentence of ours with these words."""
    with pytest.raises(error) as refusal:
        dict(open_source(path).tensors())
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message
    return message


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
