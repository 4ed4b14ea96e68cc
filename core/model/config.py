"""What distinguishes one decoder from another, and reading it from a published ``config.json``.

Every architecture is the same stack of blocks with other switches. ``DecoderConfig`` holds the switches; the modules of
``core.model.architectures`` fill it from the fields of their family. Nothing here builds a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.errors import ModelLoadError

__all__ = ["DecoderConfig", "Fields", "PrefixConfig", "RotaryConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryConfig:
    """How positions turn queries and keys.

    Attributes:
        dims: rotated channels of a head, from its start; the rest passes through.
        pairing: "adjacent" turns channels (2i, 2i + 1), "halves" (i, i + dims / 2).
        two_rows: the head's halves are turned by two rows of positions, each with ``dims / 2`` channels (ChatGLM v1).
        rounds_to_half: frequencies are rounded to float16 before use, as the published weights hold them.
        position_divisor: positions are divided by it ("linear" scaling).
        llama3: factor, low and high frequency factor, original context of Llama 3's scaling; None without it.
        divisors: one divisor for each frequency, as GGUF files of Llama 3 store its scaling.
    """

    dims: int
    base: float
    pairing: Literal["adjacent", "halves"]
    two_rows: bool = False
    rounds_to_half: bool = False
    position_divisor: float = 1.0
    llama3: tuple[float, float, float, float] | None = None
    divisors: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixConfig:
    """A P-tuning v2 prefix: learnt keys and values in front of each layer.

    Attributes:
        length: columns it adds.
        projection_dim: width of the hidden layer that makes it; None where the embedding is the prefix itself.
        embedding_dim: width of a row of its embedding.
    """

    length: int
    embedding_dim: int
    projection_dim: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """All that the forward pass has to know.

    Attributes:
        architecture: a key of ``core.model.architectures.ARCHITECTURES``.
        norm_offset: added to the weight of every RMS norm (Gemma stores weights minus one).
        residual: "plain" adds to the input; "normed" adds to the normed input times ``residual_scale`` (ChatGLM v1);
            "parallel" feeds one normed input to attention and MLP alike (MOSS).
        is_sliding: for each layer, whether it sees only ``sliding_window`` tokens, itself included.
        local_rotary: what sliding layers use instead of ``rotary``.
        is_prefix_lm: tokens before ``bos_id`` see one another in both directions (ChatGLM v1).
        eos_ids: any of them ends a text.
    """

    architecture: str
    vocab_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    feed_forward_dim: int
    context_tokens: int
    rotary: RotaryConfig
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-5
    norm_offset: float = 0.0
    activation: Literal["silu", "gelu_tanh"] = "silu"
    is_gated: bool = True
    has_qkv_bias: bool = False
    has_attention_out_bias: bool = False
    has_mlp_bias: bool = False
    has_head_bias: bool = False
    has_qk_norm: bool = False
    has_post_norms: bool = False
    softmax_scale: float = 1.0
    residual: Literal["plain", "normed", "parallel"] = "plain"
    residual_scale: float = 1.0
    embedding_scale: float = 1.0
    ties_embeddings: bool = False
    local_rotary: RotaryConfig | None = None
    sliding_window: int | None = None
    is_sliding: tuple[bool, ...] = ()
    is_prefix_lm: bool = False
    prefix: PrefixConfig | None = None
    bos_id: int | None = None
    pad_id: int | None = None
    mask_id: int | None = None
    gmask_id: int | None = None
    eos_ids: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ModelLoadError(f"the configuration gives {name} = {getattr(self, name)}; wanted 1 or more")
        if self.feed_forward_dim < 1 or self.context_tokens < 1:
            raise ModelLoadError("the configuration gives a size of the MLP or of the context below 1")
        if self.num_heads % self.num_kv_heads:
            raise ModelLoadError(
                f"the configuration gives {self.num_heads} attention heads and {self.num_kv_heads} key-value heads; "
                "the first must be a multiple of the second"
            )
        parts = 4 if self.rotary.two_rows else 2
        if self.rotary.dims % parts or not 0 < self.rotary.dims <= self.head_dim:
            raise ModelLoadError(
                f"the configuration rotates {self.rotary.dims} of {self.head_dim} channels of a head; wanted a "
                f"multiple of {parts} that is not larger than the head"
            )

    @property
    def qkv_rows(self) -> int:
        """Rows of the fused projection: queries, keys, values."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def prefix_tokens(self) -> int:
        """Columns in front of the first token's."""
        return self.prefix.length if self.prefix else 0

    def rotary_of(self, layer: int) -> RotaryConfig:
        """What turns the queries and keys of this layer."""
        return self.local_rotary if self.local_rotary and self.slides(layer) else self.rotary

    def slides(self, layer: int) -> bool:
        """Whether this layer sees only the last ``sliding_window`` tokens."""
        return bool(self.is_sliding) and self.is_sliding[layer]


class Fields:
    """The fields of one ``config.json``, read by name and checked by type.

    Raises from every method:
        ModelLoadError: the field is missing without a default, or is not of the type; the message names it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def integer(self, *names: str, default: int | None = None) -> int:
        """The first of these fields that is there."""
        value = self._first(names, default)
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not is_whole:
            raise ModelLoadError(f"config.json: {names[0]} is {value!r}, wanted a whole number")
        return int(value)

    def number(self, *names: str, default: float | None = None) -> float:
        value = self._first(names, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelLoadError(f"config.json: {names[0]} is {value!r}, wanted a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ModelLoadError(f"config.json: {name} is {value!r}, wanted true or false")
        return value

    def ids(self, name: str) -> tuple[int, ...]:
        """Token ids: one, several or none."""
        value = self.values.get(name)
        listed = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in listed):
            raise ModelLoadError(f"config.json: {name} is {value!r}, wanted a token id or a list of them")
        return tuple(listed)

    def one_id(self, name: str) -> int | None:
        found = self.ids(name)
        return found[0] if found else None

    def section(self, name: str) -> Fields:
        """A nested object; an empty one where there is none."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise ModelLoadError(f"config.json: {name} is {value!r}, wanted an object")
        return Fields(value or {})

    def refuse(self, name: str, *harmless: Any) -> None:
        """Stop at a field whose value asks for something that is not built."""
        value = self.values.get(name)
        if value is not None and value not in harmless:
            raise ModelLoadError(f"config.json: {name} is {value!r}, which is not supported; wanted {harmless or None}")

    def _first(self, names: tuple[str, ...], default: Any) -> Any:
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        if default is None:
            raise ModelLoadError(f"config.json lacks {' or '.join(names)}; fetch the checkpoint again")
        return default
