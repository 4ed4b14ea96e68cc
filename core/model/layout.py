"""Which position each token has and which columns it sees, for every architecture and for padded batches.

Positions and masks follow from the ids alone, so a loader, a trainer and a test all get them here. Nothing here knows
weights or a cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import ModelError
from core.model.config import DecoderConfig

__all__ = ["Layout", "plan"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions and visibility of the tokens that are to be computed.

    Attributes:
        positions: (batch, seq_len), or (batch, 2, seq_len) for two rows.
        full: True where a token sees a column, (batch, seq_len, prefix + past + seq_len); None: plainly causal, with
            nothing in front.
        sliding: the same for sliding layers; None where there are none or the window hides nothing.
    """

    positions: Tensor
    full: Tensor | None
    sliding: Tensor | None

    def mask_of(self, is_sliding: bool) -> Tensor | None:
        return self.sliding if is_sliding and self.sliding is not None else self.full


def plan(config: DecoderConfig, ids: Tensor, attention_mask: Tensor | None = None, *, past: int = 0) -> Layout:
    """The layout of ``ids[:, past:]``, the columns before being in a cache.

    Args:
        ids: the whole sequences, (batch, length), padded on the left.
        attention_mask: (batch, length), True or 1 at tokens; None: nothing is padded.

    Raises:
        ModelError: a ChatGLM v1 sequence lacks its mask token or ``<sop>``.
    """
    length = ids.shape[1]
    real = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
    starts = torch.zeros(len(ids), dtype=torch.long, device=ids.device) if real is None else length - real.sum(1)
    columns = torch.arange(length, device=ids.device)
    rows = columns[past:]
    counted = (columns[None] - starts[:, None]).clamp(min=0)
    visible = (columns[None, None] <= rows[None, :, None]).expand(len(ids), -1, -1)
    positions = counted
    if config.is_prefix_lm:
        context, masks = _find_marks(config, ids, starts)
        visible = visible | (columns[None, None] < context[:, None, None])
        is_answer = columns[None] >= context[:, None]
        place = torch.where(is_answer, (masks - starts)[:, None], counted)
        step = torch.where(is_answer, columns[None] - context[:, None] + 1, torch.zeros_like(counted))
        positions = torch.stack([place, step], dim=1)
    sliding = None
    if config.sliding_window is not None and length > config.sliding_window:
        sliding = visible & (rows[None, :, None] - columns[None, None] < config.sliding_window)
    is_plain = real is None and past == 0 and not config.is_prefix_lm and not config.prefix_tokens
    full = None if is_plain else _finish(config, visible, real)
    return Layout(positions[..., past:], full, _finish(config, sliding, real) if sliding is not None else None)


def _finish(config: DecoderConfig, visible: Tensor, real: Tensor | None) -> Tensor:
    """Hide padded columns and add the columns of a P-tuning prefix, which everybody sees."""
    if real is not None:
        visible = visible & real[:, None]
    if config.prefix_tokens:
        front = visible.new_ones(*visible.shape[:2], config.prefix_tokens)
        visible = torch.cat([front, visible], dim=-1)
    return visible


def _find_marks(config: DecoderConfig, ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Column of the first ``<sop>``, and of the token to be filled: the first [gMASK], else the first [MASK]."""
    is_real = torch.arange(ids.shape[1], device=ids.device)[None] >= starts[:, None]

    def first(token_id: int | None) -> tuple[Tensor, Tensor]:
        found = (ids == (-1 if token_id is None else token_id)) & is_real
        return found.any(1), found.int().argmax(1)

    has_sop, sop = first(config.bos_id)
    has_gmask, gmask = first(config.gmask_id)
    has_mask, mask = first(config.mask_id)
    if not bool(has_sop.all()):
        raise ModelError(f"a sequence for ChatGLM lacks <sop> (id {config.bos_id}); end its context with [gMASK] <sop>")
    if not bool((has_gmask | has_mask).all()):
        raise ModelError(
            f"a sequence for ChatGLM has no [gMASK] (id {config.gmask_id}) and no [MASK] (id {config.mask_id}); "
            "end its context with [gMASK] <sop>"
        )
    return sop, torch.where(has_gmask, gmask, mask)
