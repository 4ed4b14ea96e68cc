"""The engine's own attention against torch's, on every kind of mask that a prompt can have."""

import pytest
import torch

from core.engine import attention
from core.engine.attention import EngineAttention
from core.model.blocks import attend


def some_heads(length, columns, *, batch=2, num_heads=6, num_kv_heads=2, dim=16):
    chance = torch.Generator().manual_seed(5)
    queries = torch.randn(batch, num_heads, length, dim, generator=chance)
    keys, values = (torch.randn(batch, num_kv_heads, columns, dim, generator=chance) for _ in range(2))
    return queries, keys, values


def masks(length, columns):
    rows = torch.arange(columns - length, columns)[:, None]
    causal = torch.arange(columns)[None] <= rows
    return {
        "plainly causal": None,
        "behind a cache": causal.expand(2, -1, -1),
        "sliding": (causal & (rows - torch.arange(columns) < 40)).expand(2, -1, -1),
        "bidirectional context": (causal | (torch.arange(columns) < columns - 9)).expand(2, -1, -1),
    }


@pytest.mark.parametrize("length", [64, 128, 300])
@pytest.mark.parametrize("name", masks(1, 10))
def test_many_queries_gather_what_torch_gathers(monkeypatch, length, name):
    monkeypatch.setattr(attention, "has_bfloat16_products", lambda: True)
    columns = length if name == "plainly causal" else length + 50
    visible = masks(length, columns)[name]
    heads = some_heads(length, columns)
    ours = EngineAttention(is_causal=name != "bidirectional context", is_exact=False)
    found = ours(*heads, visible, 0.25).float()
    # bfloat16 keeps 8 bits, and a score of 8 is then off by up to 2^-6.
    torch.testing.assert_close(found, attend(*heads, visible, 0.25), rtol=0, atol=0.05)
    exact = EngineAttention(is_causal=True, is_exact=True)
    assert torch.equal(exact(*heads, visible, 0.25), attend(*heads, visible, 0.25))


def test_one_query_gathers_what_torch_gathers_without_repeating_keys():
    queries, keys, values = some_heads(1, 70)
    visible = (torch.arange(70) < 55).expand(2, 1, -1)
    ours = EngineAttention(is_causal=True, is_exact=True)
    found = ours._in_groups(queries * 0.25, keys, values, visible)
    torch.testing.assert_close(found, attend(queries, keys, values, visible, 0.25), rtol=0, atol=1e-6)
