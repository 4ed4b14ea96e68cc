"""Rounding and products: the published examples, and each product against the matrix it stands for."""

import pytest
import torch

from core.engine.cpu import has_vnni
from core.engine.int8_weight import Int8Weight
from core.engine.lowbit import fit_int4, pack_nibbles, quantize, unpack_nibbles
from core.engine.packing import WeightBuilder
from core.errors import ModelLoadError, SettingsError

ROW = torch.tensor([[-1, -0.3, 0, 0.4, 0.9, 2]])


def test_the_worked_example_in_8_bits():
    found = quantize(ROW, bits=8)
    assert found.codes.tolist() == [[0, 60, 85, 119, 162, 255]]
    assert found.zero.item() == 85
    torch.testing.assert_close(found.values(), torch.tensor([[-1, -0.2941, 0, 0.4, 0.9059, 2]]), rtol=0, atol=1e-4)


def test_the_worked_example_in_4_bits_and_its_bytes():
    found = quantize(ROW, bits=4)
    assert found.codes.tolist() == [[0, 3, 5, 7, 9, 15]]
    assert pack_nibbles(found.codes).numpy().tobytes().hex() == "03579f"
    assert torch.equal(unpack_nibbles(pack_nibbles(found.codes)), found.codes)


def test_a_positive_row_starts_at_zero():
    found = quantize(torch.tensor([[0.5, 1, 1.5]]), bits=8)
    assert found.codes.tolist() == [[85, 170, 255]]
    assert found.zero.item() == 0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [None, 16])
def test_no_value_is_off_by_more_than_half_a_step(bits, symmetric, group_size):
    matrix = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    matrix[3] = 0
    found = quantize(matrix, bits=bits, symmetric=symmetric, group_size=group_size)
    step = found.scale.repeat_interleave(64 // found.scale.shape[1], dim=1)
    # Rounding the zero point may add half a step at the ends of an asymmetric range.
    assert bool(((found.values() - matrix).abs() <= step * (0.501 if symmetric else 1.001)).all())
    assert not found.values()[3].any()


def test_the_fit_is_closer_than_plain_rounding():
    matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(2))
    codes, pairs = fit_int4(matrix, group_size=32)
    scale, offset = (pairs[..., part].float().t().repeat_interleave(32, dim=1) for part in (0, 1))
    fitted = (codes.float() - 8) * scale + offset
    rounded = quantize(matrix, bits=4, group_size=32).values()
    assert (fitted - matrix).square().sum() < 0.95 * (rounded - matrix).square().sum()


@pytest.mark.parametrize("shape", [(350, 172), (128, 64), (16, 32), (65, 33)])
@pytest.mark.parametrize("tokens", [1, 3, 70])
@pytest.mark.parametrize(("kind", "limit"), [("float32", 1e-6), ("bfloat16", 8e-3), ("int8", 1e-4), ("int4", 1.2e-2)])
def test_a_product_is_that_of_the_rounded_matrix(shape, tokens, kind, limit):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(shape, generator=generator)
    builder = WeightBuilder(*shape, kind)
    builder.add(0, matrix[:10], name="a")
    builder.add(10, matrix[10:], name="b")
    weight = builder.finish()
    assert builder.is_complete
    x = torch.randn(tokens, shape[1], generator=generator)
    x[0, 0] = 50  # an outlier, as real activations have
    wanted = x @ weight.take(torch.arange(shape[0])).t()
    if kind == "int8" and tokens > 64:
        limit = 8e-3  # many tokens are multiplied in bfloat16
    elif kind == "int8" and not has_vnni():
        limit = 8e-4  # activations are rounded to a sixty-third twice over, a quarter as fine
    torch.testing.assert_close(weight(x), wanted, rtol=0, atol=limit * float(wanted.abs().max()))


def test_a_product_of_nothing_is_nothing():
    builder = WeightBuilder(32, 32, "int8")
    builder.add(0, torch.ones(32, 32), name="a")
    assert not builder.finish()(torch.zeros(1, 32)).any()


def test_what_cannot_be_rounded_is_refused():
    with pytest.raises(SettingsError, match="bits"):
        quantize(ROW, bits=5)
    with pytest.raises(SettingsError, match="groups of 4"):
        quantize(ROW, bits=4, group_size=4)
    with pytest.raises(ModelLoadError, match="some\\.weight"):
        WeightBuilder(1, 2, "int4").add(0, torch.tensor([[1.0, float("inf")]]), name="some.weight")


def test_an_8_bit_weight_without_rows_gives_its_codes_back():
    generator = torch.Generator().manual_seed(4)
    codes = torch.randint(-128, 128, (70, 33), dtype=torch.int8, generator=generator)
    scale, zero = torch.rand(70, generator=generator), torch.zeros(70, dtype=torch.int8)
    whole, bare = Int8Weight(codes, scale, zero), Int8Weight(codes, scale, zero, use="product")
    assert torch.equal(bare.codes, codes)
    assert bare.held_bytes < whole.held_bytes
