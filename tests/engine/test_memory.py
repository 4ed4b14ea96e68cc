"""Loading holds the rounded weights and one shard, never the whole checkpoint. Takes a gigabyte of disk."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from core.model.architectures import placements, read_config

CONFIG = {
    "model_type": "chatglm",
    "padded_vocab_size": 32000,
    "hidden_size": 2048,
    "ffn_hidden_size": 5632,
    "num_layers": 12,
    "num_attention_heads": 16,
    "kv_channels": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "add_qkv_bias": True,
    "seq_length": 2048,
}
NUM_SHARDS = 4
LOAD = """
import resource, sys
import core.engine as engine
engine.load(sys.argv[2], bits=int(sys.argv[3]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = engine.load(sys.argv[1], bits=int(sys.argv[3]))
print(model.num_bytes, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    places = placements(read_config(CONFIG))
    names, weight_map = list(places), {}
    per_shard = len(names) // NUM_SHARDS + 1
    for number in range(NUM_SHARDS):
        part = names[number * per_shard : (number + 1) * per_shard]
        shard = f"model-{number + 1:05}-of-{NUM_SHARDS:05}.safetensors"
        save_file({name: torch.full(places[name].shape, 0.02).half() for name in part}, folder / shard)
        weight_map |= dict.fromkeys(part, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_loading_holds_the_rounded_weights_and_one_shard(checkpoint, shared, bits):
    small = shared / "parity" / "chatglm2"
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(checkpoint), str(small), str(bits)], capture_output=True, text=True, check=True
    )
    held, peak = map(int, done.stdout.split())
    largest = max(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    assert peak <= held + 1.2 * largest
