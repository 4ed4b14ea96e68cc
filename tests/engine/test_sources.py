"""Checkpoint folders against the libraries that wrote them, and files that lie."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.engine.sources import open_source
from core.errors import NovelscopeError, UnknownModel
from tests.engine.checkpoints import folder_with, refused, same, some_tensors, split_into_shards


@pytest.fixture
def folder(tmp_path):
    path = folder_with(tmp_path / "checkpoint")
    save_file(some_tensors(), path / "model.safetensors", metadata={"format": "pt"})
    return path


LAYOUTS = {
    "one safetensors": lambda path, tensors: save_file(tensors, path / "model.safetensors"),
    "another name": lambda path, tensors: save_file(tensors, path / "weights.safetensors"),
    "safetensors shards": lambda path, tensors: split_into_shards(path, "safetensors", tensors),
    "shards without an index": lambda path, tensors: split_into_shards(path, "safetensors", tensors).unlink(),
    "one torch file": lambda path, tensors: torch.save(tensors, path / "pytorch_model.bin"),
    "parameters": lambda path, tensors: torch.save(
        {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in tensors.items()},
        path / "pytorch_model.bin",
    ),
    "torch shards": lambda path, tensors: split_into_shards(path, "bin", tensors),
    "old torch file": lambda path, tensors: torch.save(
        tensors, path / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_tensors_that_were_saved(tmp_path, layout):
    tensors, path = some_tensors(), folder_with(tmp_path / "checkpoint")
    LAYOUTS[layout](path, tensors)
    torch.save({"lr": 1}, path / "training_args.bin")  # a trainer's remains are no weights
    source = open_source(path)
    described = {name: (entry.name, entry.shape, entry.dtype) for name, entry in source.entries.items()}
    assert described == {name: (name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    assert source.num_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert all((path / entry.shard).is_file() for entry in source.entries.values())
    same(dict(source.tensors()), tensors)
    same(dict(source.tensors()), tensors)  # and again


def test_the_parity_checkpoints_come_out_as_the_libraries_read_them(shared):
    folders = [path for path in sorted((shared / "parity").iterdir()) if path.is_dir()]
    assert len(folders) > 10
    for path in folders:
        wanted = {}
        for file in path.glob("*.safetensors"):
            wanted |= load_file(file)
        for file in path.glob("*.bin"):
            wanted |= torch.load(file, weights_only=True)
        source = open_source(path)
        same(dict(source.tensors()), wanted)
        assert source.config == json.loads((path / "config.json").read_text(encoding="utf-8"))


def test_small_files_come_along_and_large_ones_are_refused(folder):
    (folder / "tokenizer.json").write_bytes(b"{}")
    (folder / "generation_config.json").write_bytes(b'{"eos_token_id": 2}')
    (folder / "modeling_x.py").write_bytes(b"raise SystemExit")
    assert dict(open_source(folder).files) == {
        "tokenizer.json": b"{}",
        "generation_config.json": b'{"eos_token_id": 2}',
    }
    with (folder / "tokenizer.model").open("wb") as file:
        file.truncate((64 << 20) + 1)
    refused(folder, "tokenizer.model", "more than 67108864 bytes")


def test_a_tensor_that_the_index_does_not_name_is_no_part_of_the_model(tmp_path):
    path, tensors = folder_with(tmp_path / "checkpoint"), some_tensors()
    index = split_into_shards(path, "safetensors", tensors)
    described = json.loads(index.read_text())
    shard = described["weight_map"].pop("model.mask")
    index.write_text(json.dumps(described))
    source = open_source(path)
    assert "model.mask" not in source.entries and "model.half" in source.entries
    assert shard in {entry.shard for entry in source.entries.values()}
    assert "model.mask" not in dict(source.tensors())


def test_a_path_that_is_nothing_is_an_unknown_model(tmp_path):
    refused(tmp_path / "nowhere", "does not exist", error=UnknownModel)
    (tmp_path / "novel.txt").write_text("三国")
    refused(tmp_path / "novel.txt", "neither a folder nor a .gguf file", error=UnknownModel)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no config.json"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "holds a list, wanted a JSON object"),
    ],
)
def test_a_config_that_is_none_is_named(folder, content, words):
    (folder / "config.json").unlink() if content is None else (folder / "config.json").write_bytes(content)
    refused(folder, "config.json", words)


def test_absent_and_double_weights_are_named(tmp_path):
    path = folder_with(tmp_path / "checkpoint")
    refused(path, "holds no weights")
    save_file(some_tensors(), path / "a.safetensors")
    save_file(some_tensors(), path / "b.safetensors")
    refused(path, "several sets of weights", "a.safetensors, b.safetensors")
    for number, name in enumerate("ab", 1):
        (path / f"{name}.safetensors").rename(path / f"model-{number:05}-of-00002.safetensors")
    refused(path, "model-00002-of-00002.safetensors", "both hold the tensor 'model.", "keep one")
    (path / "model-00001-of-00002.safetensors").unlink()
    refused(path, "lacks shard 1 of 2")
    (path / "model-00002-of-00002.safetensors").rename(path / "model-00003-of-00003.safetensors")
    (path / "model-00001-of-00003.safetensors").write_bytes(b"")
    refused(path, "lacks shard 2 of 3")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_index_that_lies_is_named(tmp_path, ending):
    path = folder_with(tmp_path / "checkpoint")
    index = split_into_shards(path, ending, some_tensors())
    described = json.loads(index.read_text())
    shard = described["weight_map"]["model.half"]

    def with_map(**changes):
        index.write_text(json.dumps({"weight_map": {**described["weight_map"], **changes}}))

    with_map(**{"model.more.weight": shard})
    refused(path, shard, "lacks the tensor 'model.more.weight'")
    with_map(**{"model.half": "absent." + ending})
    refused(path, index.name, "'model.half'", f"'absent.{ending}', which is missing")
    outside = tmp_path / f"outside.{ending}"
    shutil.copy(path / shard, outside)
    escapes = [
        f"../outside.{ending}",
        str(outside),
        f"a/../../outside.{ending}",
        f"..\\outside.{ending}",
        3,
        None,
        [],
        "",
    ]
    for escape in [*escapes, "config.json", f".{ending}", f"x\0.{ending}"]:
        with_map(**{"model.half": escape})
        refused(path, index.name, "'model.half'", "in the same folder")
    doubled = json.dumps(described).replace('"model.half":', f'"model.half": "other.{ending}", "model.half":')
    index.write_text(doubled)
    refused(path, "claim 'model.half'")
    for nonsense in (b"{}", b"[]", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff", b""):
        index.write_bytes(nonsense)
        refused(path, index.name)


def test_a_safetensors_file_cut_anywhere_is_refused(folder, tmp_path):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:header_bytes])
    for length in [*range(0, 16), *range(16, len(content), 7), len(content) - 1]:
        file.write_bytes(content[:length])
        message = refused(folder, "model.safetensors")
        if length >= header_bytes:
            broken = [
                name
                for name, each in header.items()
                if name[0] != "_" and header_bytes + each["data_offsets"][1] > length
            ]
            first = min(broken, key=lambda name: header[name]["data_offsets"][0])
            assert repr(first) in message
    file.write_bytes(content + b"\0")
    refused(folder, f"has {len(content) + 1} bytes")


def test_no_byte_of_a_safetensors_header_can_be_changed_into_a_traceback(folder):
    file, chance = folder / "model.safetensors", random.Random(0)
    content = file.read_bytes()
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    num_refused = 0
    for place in range(header_bytes):
        for value in {content[place] ^ (1 << chance.randrange(8)), chance.choice(b'0123456789"{}[],:-')} - {
            content[place]
        }:
            file.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                dict(open_source(folder).tensors())
            except NovelscopeError as refusal:
                num_refused += 1
                assert "\n" not in str(refusal)
    assert num_refused > header_bytes  # a changed name or padding may pass


def with_header(path, header, data=b""):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def entry(start, stop, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": entry(0, 16), "b": entry(8, 24)}, "'b' starts at byte 8 of the data, wanted 16"),
        ({"a": entry(0, 16), "b": entry(24, 40)}, "'b' starts at byte 24"),
        ({"a": entry(0, 16), "b": entry(16, 32), "c": entry(32, 48)}, "cut off: the tensor 'c' ends at"),
        ({"a": entry(0, 12)}, "'a' of dtype F32 and shape [4] cannot fill bytes [0, 12]"),
        ({"a": entry(-16, 0)}, "cannot fill"),
        ({"a": entry(0, 16, (-2, -2))}, "cannot fill"),
        ({"a": entry(0, 16, (True, 4))}, "cannot fill"),
        ({"a": entry(0, 16, (4.0,))}, "cannot fill"),
        ({"a": entry(0, 1 << 70, (1 << 68,))}, "cannot fill"),
        ({"a": entry(0, 16, dtype="F4")}, "dtype 'F4', wanted one of F64"),
        ({"a": entry(0, 16, dtype=["F32"])}, "dtype ['F32']"),
        ({"a": {"dtype": "F32"}}, "does not describe the tensor 'a'"),
        ({"a": 3}, "does not describe the tensor 'a'"),
        ([], "no JSON object"),
        (b'{"a": {}, "a": {}}', "'a' stands there twice"),
        (b"[" * 50_000, "damaged header"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "a"),
        ({}, "bytes and its header describes"),
        ({"__metadata__": {}}, "bytes and its header describes"),
    ],
)
def test_a_header_that_describes_impossible_data_is_named(folder, header, words):
    with_header(folder / "model.safetensors", header, bytes(32))
    refused(folder, "model.safetensors", words)


def test_a_torch_file_cut_or_changed_anywhere_is_refused_or_read(tmp_path):
    path, chance = folder_with(tmp_path / "checkpoint"), random.Random(0)
    for is_zip in (True, False):
        torch.save(some_tensors(), path / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
        content = (path / "pytorch_model.bin").read_bytes()
        for length in [0, 1, 3, *range(4, len(content), 211), len(content) - 1]:
            (path / "pytorch_model.bin").write_bytes(content[:length])
            refused(path, "pytorch_model.bin")
        for _ in range(150):
            place = chance.randrange(len(content))
            changed = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
            (path / "pytorch_model.bin").write_bytes(changed)
            try:
                dict(open_source(path).tensors())
            except NovelscopeError as refusal:
                assert "\n" not in str(refusal)


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["zip", "old", "bare pickle", "protocol 4"])
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path, how):
    path, target = folder_with(tmp_path / "checkpoint"), tmp_path / "was here"
    content = {"a": torch.ones(2), "b": Hostile(target)}
    if how in ("zip", "old"):
        torch.save(content, path / "pytorch_model.bin", _use_new_zipfile_serialization=how == "zip")
    else:
        (path / "pytorch_model.bin").write_bytes(pickle.dumps({"b": Hostile(target)}, 4 if "4" in how else 2))
    refused(path, "pytorch_model.bin", "would run code")
    assert not target.exists()
    pickle.loads(pickle.dumps(Hostile(target)))  # it would have worked
    assert target.exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {"a": 3}, {3: torch.ones(2)}, {"a": torch.eye(2).to_sparse()}])
def test_a_torch_file_of_anything_but_tensors_by_name_is_refused(tmp_path, content):
    path = folder_with(tmp_path / "checkpoint")
    torch.save(content, path / "pytorch_model.bin")
    refused(path, "pytorch_model.bin", "wanted")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_reading_shards_holds_one_at_a_time(tmp_path, ending):
    """Four shards of 64 MB, read with every tensor touched, in a process of its own."""
    path, weight_map = folder_with(tmp_path / "checkpoint"), {}
    stem = {"safetensors": "model", "bin": "pytorch_model"}[ending]
    for number in range(1, 5):
        shard = f"{stem}-{number:05}-of-00004.{ending}"
        tensors = {f"{number}.{part}": torch.full((4 << 20,), float(number)) for part in range(4)}
        (save_file if ending == "safetensors" else torch.save)(tensors, path / shard)
        weight_map |= dict.fromkeys(tensors, shard)
    index = path / ("model.safetensors.index.json" if ending == "safetensors" else "pytorch_model.bin.index.json")
    index.write_text(json.dumps({"weight_map": weight_map}))
    script = """
import resource, sys, torch, safetensors.torch
from pathlib import Path
from core.engine.sources import open_source
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
torch.ones(1000, 1000).sum()
source = open_source(Path(sys.argv[1]))
before, total = peak(), 0.0
for name, tensor in source.tensors():
    total += float(tensor.sum())
    del tensor
print(total / (4 << 20), peak() - before)
"""
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    total, more_mb = map(float, ran.stdout.split())
    assert total == 40.0
    assert more_mb < 64 * 1.2  # the largest shard and a fifth
