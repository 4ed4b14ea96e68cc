"""The container file: what goes in comes out, nothing half-written stays, and no damage passes unseen."""

import json
import os
import random
import subprocess
import sys
import time
from hashlib import sha256

import pytest
import torch

from core.engine import container as module
from core.engine.container import ContainerWriter, open_container
from core.errors import ModelLoadError, UnknownModel

DTYPES = tuple(module.DTYPES.values())


def write(path, arrays, blobs=(), meta=None, **options):
    with ContainerWriter(path, kind="test", version=2, **options) as writer:
        for name, array in arrays.items():
            writer.add_array(name, array)
        for name, blob in dict(blobs).items():
            writer.add_blob(name, blob)
        writer.set_meta(meta or {})
    return path


def read(path):
    return open_container(path, kind="test", version=2)


@pytest.fixture
def path(tmp_path):
    torch.manual_seed(0)
    arrays = {"a.weight": torch.randn(5, 7), "b": torch.randint(0, 255, (100,), dtype=torch.uint8)}
    return write(tmp_path / "small.nscope", arrays, {"tokenizer.json": "三国".encode()}, {"name": "小模型"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4), (17,)], ids=str)
def test_an_array_of_any_dtype_and_shape_comes_back_bit_for_bit(tmp_path, dtype, shape):
    values = torch.randint(0, 2, shape).to(dtype)
    other = torch.arange(3, dtype=torch.int8)  # an odd length before it, so that alignment has work to do
    back = read(write(tmp_path / "x.nscope", {"odd": other, "x": values})).array("x")
    assert back.dtype == dtype and back.shape == values.shape
    assert back.reshape(-1).view(torch.uint8).tolist() == values.reshape(-1).view(torch.uint8).tolist()
    assert back.data_ptr() % 64 == 0 or back.numel() == 0


def test_nan_payloads_and_transposed_tensors_survive(tmp_path):
    bits = torch.tensor([[0x7FC0, 0x7F81, 0xFF80 - 0x10000], [1, 2, 3]], dtype=torch.int16)
    back = read(write(tmp_path / "x.nscope", {"x": bits.view(torch.bfloat16).T})).array("x")
    assert back.view(torch.int16).tolist() == bits.T.tolist()


def test_blobs_meta_and_names_come_back(path):
    file = read(path)
    assert file.blob("tokenizer.json").decode() == "三国"
    assert file.meta == {"name": "小模型"} and file.version == 2
    assert file.names == ("a.weight", "b", "tokenizer.json")
    file.verify()


@pytest.mark.parametrize(("take", "name"), [("array", "c"), ("array", "tokenizer.json"), ("blob", "a.weight")])
def test_a_name_that_is_not_there_is_said_in_one_sentence(path, take, name):
    with pytest.raises(ModelLoadError, match=name) as refusal:
        getattr(read(path), take)(name)
    assert "\n" not in str(refusal.value)


def test_writing_into_an_array_never_reaches_the_file(path):
    before = path.read_bytes()
    file = read(path)
    file.array("b").zero_()
    del file
    assert path.read_bytes() == before


def test_arrays_outlive_the_container_that_gave_them(path):
    array = read(path).array("a.weight")
    torch.manual_seed(0)
    assert torch.equal(array, torch.randn(5, 7))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_off_file_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error), ContainerWriter(tmp_path / "x.nscope", kind="test", version=1) as writer:
        writer.add_array("x", torch.ones(10))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_meta_that_is_no_json_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError), ContainerWriter(tmp_path / "x.nscope", kind="test", version=1) as writer:
        writer.set_meta({"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_when_asked(path):
    before = path.read_bytes()
    with pytest.raises(ModelLoadError, match="exists already"):
        write(path, {})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    write(path, {"x": torch.ones(1)}, overwrite=True)
    assert read(path).names == ("x",)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "x.nscope"
    with pytest.raises(ModelLoadError, match="exists already"), ContainerWriter(target, kind="t", version=1):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs" and os.listdir(tmp_path) == [target.name]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path):
    script = """
import resource, sys, torch
from pathlib import Path
from core.engine.container import ContainerWriter
from core.errors import ModelLoadError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk does, writing fails from here on
for sizes in ((5000,), (200, 200, 1000), (500,)):  # in the middle, in a later array, in the index
    try:
        with ContainerWriter(Path(sys.argv[1]), kind="test", version=1) as writer:
            for number, size in enumerate(sizes):
                writer.add_array(str(number), torch.ones(size, dtype=torch.uint8))
            writer.set_meta({"text": "x" * 1000})
    except ModelLoadError as refusal:
        print(refusal)
"""
    path = tmp_path / "x.nscope"
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith(f"{path} cannot be written: ") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_kind_version_and_magic_are_checked(path, tmp_path):
    with pytest.raises(ModelLoadError, match="kind 'test', wanted 'adapter'"):
        open_container(path, kind="adapter", version=2)
    with pytest.raises(ModelLoadError, match="version 2 and this program reads up to 1"):
        open_container(path, kind="test", version=1)
    text = tmp_path / "text.nscope"
    text.write_text("第一回 宴桃园豪杰三结义" * 50)
    with pytest.raises(ModelLoadError, match="not a novelscope file"):
        read(text)
    with pytest.raises(UnknownModel, match="not a file"):
        read(tmp_path)


def test_every_length_short_of_the_whole_is_refused(path, tmp_path):
    content, damaged = path.read_bytes(), tmp_path / "cut.nscope"
    for length in [*range(0, 200), *range(200, len(content), 37), len(content) - 1]:
        damaged.write_bytes(content[:length])
        with pytest.raises(ModelLoadError) as refusal:
            read(damaged)
        assert "cut.nscope" in str(refusal.value) and "\n" not in str(refusal.value)
    damaged.write_bytes(content + b"\0")
    with pytest.raises(ModelLoadError, match="not as it was written"):
        read(damaged)


def test_every_flipped_byte_of_head_and_index_is_refused_on_opening(path, tmp_path):
    content, damaged, chance = path.read_bytes(), tmp_path / "flip.nscope", random.Random(0)
    index_start = content.index(b'{"meta"')
    for place in [*range(128), *range(index_start, len(content))]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        damaged.write_bytes(flipped)
        with pytest.raises(ModelLoadError) as refusal:
            read(damaged)
        assert "\n" not in str(refusal.value)


def test_verify_names_the_first_array_whose_bytes_changed(path, tmp_path):
    content, damaged = path.read_bytes(), tmp_path / "flip.nscope"
    starts = {name: item.start for name, item in read(path)._items.items()}
    for name, names in {"a.weight": ["a.weight", "b"], "b": ["b", "tokenizer.json"]}.items():
        flipped = bytearray(content)
        for each in names:
            flipped[starts[each] + 3] ^= 1
        damaged.write_bytes(flipped)
        with pytest.raises(ModelLoadError, match=f"bytes of '{name}'"):
            read(damaged).verify()


def forge(path, tmp_path, change):
    """The same file with another index and a right checksum, as a careless or hostile writer would make it."""
    content = path.read_bytes()
    start = content.index(b'{"meta"')
    described = json.loads(content[start:])
    described = change(described) or described
    index = json.dumps(described).encode()
    _, kind, version, *_ = module.FIELDS.unpack_from(content)
    fields = module.FIELDS.pack(module.MAGIC, kind, version, start + len(index), start, len(index))
    forged = tmp_path / "forged.nscope"
    head = (fields + sha256(fields + index).digest()).ljust(module.DATA_START, b"\0")
    forged.write_bytes(head + content[module.DATA_START : start] + index)
    return forged


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["items"]["b"].update(start=128),  # over a.weight
        lambda index: index["items"]["b"].update(start=1 << 40),
        lambda index: index["items"]["b"].update(start=-64),
        lambda index: index["items"]["b"].update(start=0),
        lambda index: index["items"]["b"].update(start=True),
        lambda index: index["items"]["b"].update(length=10**9),
        lambda index: index["items"]["b"].update(shape=[-10, -10]),
        lambda index: index["items"]["b"].update(shape=[99]),
        lambda index: index["items"]["b"].update(dtype="object"),
        lambda index: index["items"]["b"].update(dtype=["float32"]),
        lambda index: index["items"]["b"].pop("sha256"),
        lambda index: index["items"]["b"].update(more=1),
        lambda index: index.pop("meta"),
        lambda index: index.update(items=[]),
        lambda index: index.update(meta=3),
        lambda index: [1],
    ],
)
def test_an_index_that_lies_is_refused_though_its_checksum_is_right(path, tmp_path, change):
    with pytest.raises(ModelLoadError, match="cannot be used") as refusal:
        read(forge(path, tmp_path, change))
    assert "\n" not in str(refusal.value)


def test_progress_ends_at_the_whole(path):
    seen = []
    read(path).verify(on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(140, 246), (240, 246), (246, 246)]


def test_opening_reads_no_data_and_writing_holds_one_tensor(tmp_path):
    """Twelve arrays of 32 MB are written in far less memory than their sum, and open in a moment."""
    script = """
import resource, sys, torch
from pathlib import Path
from core.engine.container import ContainerWriter
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
with ContainerWriter(Path(sys.argv[1]), kind="test", version=2) as writer:
    before = peak()
    for number in range(12):
        writer.add_array(str(number), torch.full((8 << 20,), float(number)))
    print(peak() - before)
"""
    path = tmp_path / "big.nscope"
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 100  # two tensors of 32 MB at the turn of the loop, and the interpreter's own
    started_s = time.perf_counter()
    file = read(path)
    assert time.perf_counter() - started_s < 0.1
    assert file.array("7")[123] == 7.0
