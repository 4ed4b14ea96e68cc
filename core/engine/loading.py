"""From a source of published weights to the engine's network, rounding on the way.

Tensors stream by shard after shard; each is checked, put in our order and rounded, and its float form is let go before
the next comes. Nothing here knows tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from core.engine.cuda_weights import on_device
from core.engine.network import matrices, pair_order
from core.engine.packing import Kind, WeightBuilder
from core.engine.sources import WeightSource
from core.engine.weights import Use, Weight
from core.errors import ModelLoadError, SettingsError
from core.model.architectures import Placement, placements, read_config
from core.model.config import DecoderConfig, PrefixConfig

__all__ = [
    "CPU",
    "EMBEDDING",
    "LoadedWeights",
    "PrecisionSettings",
    "home_of",
    "load_weights",
    "planned_kinds",
    "use_of",
]

KINDS: dict[int, Kind] = {4: "int4", 8: "int8", 16: "bfloat16", 32: "float32"}
IGNORED_PARTS = ("inv_freq", "causal_mask", "masked_bias", "attn.bias", "rope_freqs")
OTHER_TOWERS = ("vision_tower", "multi_modal_projector", "vision_model", "audio_tower", "embed_vision")
EMBEDDING = "embedding.weight"
GROUP_SIZES = (32, 64, 128, 256)
SENSITIVE_PART = 6
"""With 8 bits the last down projections, one in so many layers, keep 16: nothing after them evens out their rounding,
and in Gemma 3 270M they cost as much perplexity as all other matrices together."""

SMALL_MODEL_WEIGHTS = 200_000_000
"""Up to so many weights in the layers, 8-bit codes are kept twice: at most 200 MB, for prompts read faster."""
CPU = torch.device("cpu")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionSettings:
    """How finely weights are kept.

    Attributes:
        bits: of a weight in a layer: 4, 8, 16 (bfloat16) or 32; with 8 the last few down projections keep 16.
        group_size: columns that share a scale in 4 bits.
        symmetric: 8-bit rows have their zero in the middle.
        head_bits: of the embedding and the output head; None: 8 where ``bits`` is 4, since rounding them as well
            doubled what 4 bits cost SmolLM2 in perplexity, and otherwise as ``bits``.
    """

    bits: int = 4
    group_size: int = 32
    symmetric: bool = False
    head_bits: int | None = None

    def __post_init__(self) -> None:
        for name in ("bits", "head_bits"):
            value = getattr(self, name)
            if value not in KINDS and not (name == "head_bits" and value is None):
                raise SettingsError(f"{name} is {value}; wanted 4, 8, 16 or 32")
        if self.group_size not in GROUP_SIZES:
            raise SettingsError(f"group_size is {self.group_size}; wanted one of {GROUP_SIZES}")

    def kind_of(self, target: str) -> Kind:
        if not target.startswith("layers."):
            return KINDS[self.head_bits or (8 if self.bits == 4 else self.bits)]
        return KINDS[self.bits]


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """All numbers of a network.

    Attributes:
        config: with adjacent rotary pairs, as the weights now are.
        weights: the matrices.
        vectors: norms, biases, prefix, stored frequencies, float32.
        wait_until_checked: returns when all bytes are known to be those that were written, or raises ModelLoadError;
            None: they are.
    """

    config: DecoderConfig
    weights: dict[str, Weight]
    vectors: dict[str, Tensor]
    wait_until_checked: Callable[[], None] | None = None


def load_weights(
    source: WeightSource,
    precision: PrecisionSettings,
    *,
    device: torch.device = CPU,
    low_memory: bool = False,
    on_progress: Progress | None = None,
) -> LoadedWeights:
    """Read, check, reorder and round everything.

    Args:
        device: where the numbers shall lie; each matrix goes there as soon as it is whole.
        low_memory: an embedding that is no output head stays in the CPU's memory.
        on_progress: called with bytes read and bytes in all.

    Raises:
        ModelLoadError: a tensor is missing, unknown, of the wrong shape or not finite; the message names it.
    """
    config = read_config(source.config, source.entries)
    places = placements(config, source.entries)
    _check_names(source, places)
    shapes = matrices(config)
    grids = getattr(source, "grid", None)
    kinds = planned_kinds(source, config, precision)
    builders: dict[str, WeightBuilder] = {}
    weights: dict[str, Weight] = {}
    vectors: dict[str, Tensor] = {}
    order, num_done = pair_order(config), 0
    for name, tensor in source.tensors():
        num_done += source.entries[name].num_bytes
        place = places.get(name)
        if place is not None and place.target in shapes:
            target = place.target
            if target not in builders:
                builders[target] = WeightBuilder(
                    *shapes[target],
                    kinds[target],
                    group_size=precision.group_size,
                    symmetric=precision.symmetric,
                    use=use_of(target, config) if device.type == "cpu" else "rows",
                    balances_columns=not target.startswith("layers."),
                )
            rows = place.reorder(tensor) if place.reorder else tensor
            turn = _row_order(target, place.start, len(rows), config, order)
            if kinds[target] == "int4" and grids and (grid := grids(name)) is not None:
                parts = grid if turn is None else [part[turn] for part in grid]
                builders[target].add_grid(place.start, *parts)
            else:
                builders[target].add(place.start, rows if turn is None else rows[turn], name=name)
            if builders[target].is_complete:
                home = home_of(target, config, device, low_memory=low_memory)
                weights[target] = on_device(builders.pop(target).finish(), home, use=use_of(target, config))
        elif place is not None:
            _add_vector(vectors, name, place, tensor, config, order)
        if on_progress:
            on_progress(num_done, source.num_bytes)
    return LoadedWeights(
        _with_adjacent_pairs(config), weights, {name: vector.to(device) for name, vector in vectors.items()}
    )


def planned_kinds(source: WeightSource, config: DecoderConfig, precision: PrecisionSettings) -> dict[str, Kind]:
    """How each matrix of the decoder will be kept, by its name."""
    places = placements(config, source.entries)
    kinds = {target: _kind(target, precision, places, source) for target in matrices(config)}
    for number in range(config.num_layers - -(-config.num_layers // SENSITIVE_PART), config.num_layers):
        target = f"layers.{number}.mlp.down.weight"
        if precision.bits == 8 and kinds[target] == "int8":
            kinds[target] = "bfloat16"
    return kinds


def _kind(target: str, precision: PrecisionSettings, places: Mapping[str, Placement], source: WeightSource) -> Kind:
    kind = precision.kind_of(target)
    grid_kinds: Any = getattr(source, "has_grid", None)
    if kind == "int4" and grid_kinds is not None:
        # A GGUF file's finer blocks were chosen because 4 bits hurt there: what has more keeps 8.
        pieces = [name for name, place in places.items() if place.target == target]
        if precision.group_size != 32 or not all(grid_kinds(name) for name in pieces):
            return "int8"
    return kind


def use_of(target: str, config: DecoderConfig) -> Use:
    """What the network asks of a matrix; of a small model also its codes, to read prompts faster."""
    if target != EMBEDDING:
        return "both" if target.startswith("layers.") and _layer_weights(config) <= SMALL_MODEL_WEIGHTS else "product"
    return "both" if config.ties_embeddings else "rows"


def home_of(target: str, config: DecoderConfig, device: torch.device, *, low_memory: bool) -> torch.device:
    """Where a matrix is to lie: an embedding that is no head may stay behind, since few of its rows are needed."""
    return CPU if low_memory and target == EMBEDDING and not config.ties_embeddings else device


def _layer_weights(config: DecoderConfig) -> int:
    attention = config.qkv_rows + config.num_heads * config.head_dim
    raised = config.feed_forward_dim * (3 if config.is_gated else 2)
    return config.num_layers * config.hidden_dim * (attention + raised)


def _check_names(source: WeightSource, places: Mapping[str, Placement]) -> None:
    for name, place in places.items():
        entry = source.entries.get(name)
        if entry is None:
            if not place.is_optional:
                raise ModelLoadError(f"{source.path} lacks the tensor {name!r}; fetch the whole checkpoint")
        elif entry.shape != place.shape:
            raise ModelLoadError(
                f"{source.path}: the tensor {name!r} has shape {list(entry.shape)}, but config.json calls for "
                f"{list(place.shape)}; the two do not belong together"
            )
    strangers = [
        name
        for name in source.entries
        if name not in places
        and not any(part in name for part in (*IGNORED_PARTS, *OTHER_TOWERS))
        and not name.endswith("lm_head.weight")
    ]
    if strangers:
        raise ModelLoadError(
            f"{source.path}: nothing is known of the tensor {strangers[0]!r}, so the model would compute something "
            "else than its authors meant; wanted only the tensors of its architecture"
        )


def _row_order(target: str, start: int, count: int, config: DecoderConfig, order: Tensor | None) -> Tensor | None:
    """Where each row of a piece of the fused projection comes from within the piece, once its pairs are adjacent."""
    if order is None or ".attention.qkv." not in target:
        return None
    turned_rows = (config.num_heads + config.num_kv_heads) * config.head_dim
    rows = torch.arange(count)
    turned = min(count, max(0, turned_rows - start))
    heads = rows[:turned].unflatten(0, (-1, config.head_dim))
    rows[:turned] = heads[:, order].flatten()
    return rows


def _add_vector(
    vectors: dict[str, Tensor],
    name: str,
    place: Placement,
    tensor: Tensor,
    config: DecoderConfig,
    order: Tensor | None,
) -> None:
    values = (place.reorder(tensor) if place.reorder else tensor).float()
    if not bool(torch.isfinite(values).all()):
        raise ModelLoadError(f"the tensor {name!r} holds NaN or infinite values; fetch the checkpoint again")
    turn = _row_order(place.target, place.start, len(values), config, order)
    if turn is not None:
        values = values[turn]
    if order is not None and place.target.endswith(("q_norm.weight", "k_norm.weight")):
        values = values[order]
    if order is not None and config.prefix is not None and place.target == _prefix_output(config.prefix, place.target):
        values = _turn_prefix(values, config, order, axis=1 if "embedding" in place.target else 0)
    if place.target.endswith("qkv.bias"):
        whole = vectors.setdefault(place.target, torch.zeros(config.qkv_rows))
    elif place.target.endswith("mlp.up.bias"):
        whole = vectors.setdefault(place.target, torch.zeros(config.feed_forward_dim * (2 if config.is_gated else 1)))
    else:
        whole = vectors.setdefault(place.target, torch.zeros(values.shape))
    whole[place.start : place.start + len(values)] = values


def _prefix_output(prefix: PrefixConfig, target: str) -> str:
    """The target itself if it makes the prefix's keys, else nothing."""
    front = "prefix.embedding." if prefix.projection_dim is None else "prefix.trans.2."
    return target if target.startswith(front) else ""


def _turn_prefix(values: Tensor, config: DecoderConfig, order: Tensor, *, axis: int) -> Tensor:
    """Reorder the channels of learnt keys as those of the queries that meet them."""
    parts = values.unflatten(axis, (config.num_layers, 2, config.num_kv_heads, config.head_dim)).clone()
    keys = parts.select(axis + 1, 0)
    keys.copy_(keys.index_select(-1 if axis else axis + 2, order))
    return parts.flatten(axis, axis + 3)


def _with_adjacent_pairs(config: DecoderConfig) -> DecoderConfig:
    local = config.local_rotary
    return replace(
        config,
        rotary=replace(config.rotary, pairing="adjacent"),
        local_rotary=replace(local, pairing="adjacent") if local else None,
    )
