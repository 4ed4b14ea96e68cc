"""The shared decoder with the engine's weights in the place of its linear layers.

``core.model.Decoder`` stays the one description of every architecture; here its matrices become any ``Weight``. Nothing
here reads a checkpoint or knows how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from core.engine.attention import EngineAttention
from core.engine.weights import FloatWeight, Weight
from core.model.blocks import Attention
from core.model.config import DecoderConfig
from core.model.decoder import Decoder
from core.model.rotary import frequencies

__all__ = ["EngineEmbedding", "EngineLinear", "build_decoder", "is_exact", "matrices", "pair_order"]


class EngineLinear(nn.Module):
    """A linear layer over any weight; gives float32."""

    def __init__(self, weight: Weight, bias: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., columns) -> (..., rows)."""
        product = self.weight(x.reshape(-1, x.shape[-1]))
        if self.bias is not None:
            product = product + self.bias
        return product.view(*x.shape[:-1], -1)


class EngineEmbedding(nn.Module):
    """Rows of any weight by id, in float32.

    Args:
        is_on_host: the weight has stayed in the CPU's memory, wherever the ids are.
    """

    def __init__(self, weight: Weight, *, is_on_host: bool = False) -> None:
        super().__init__()
        self.weight, self.is_on_host = weight, is_on_host

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight.take(ids.cpu()).to(ids.device) if self.is_on_host else self.weight.take(ids)


def matrices(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Rows and columns of every matrix of the decoder, by name; the head is left out where it is the embedding."""
    with torch.device("meta"):
        decoder = Decoder(config)
    found = {
        f"{name}.weight": (module.weight.shape[0], module.weight.shape[1])
        for name, module in decoder.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding)) and not name.startswith("prefix")
    }
    if config.ties_embeddings:
        del found["head.weight"]
    return found


def pair_order(config: DecoderConfig) -> Tensor | None:
    """Order of a head's channels that brings the two of each rotary pair side by side; None where they are already.

    The engine turns pairs as complex numbers. Scores do not change when queries and keys are reordered alike.
    """
    rotary = config.rotary
    if rotary.pairing == "adjacent":
        return None
    channels = torch.arange(config.head_dim)
    turned = channels[: rotary.dims].view(2 if rotary.two_rows else 1, 2, -1)
    return torch.cat([turned.transpose(1, 2).flatten(), channels[rotary.dims :]])


def build_decoder(
    config: DecoderConfig, weights: dict[str, Weight], vectors: dict[str, Tensor], *, keeps_embedding: bool = False
) -> Decoder:
    """The decoder over these weights.

    Args:
        config: already with adjacent rotary pairs, if the weights were reordered.
        weights: by the names that ``matrices`` gives.
        vectors: norms, biases, the prefix and stored rotary frequencies, float32, by name; the decoder is made on the
            device where they lie.
        keeps_embedding: the embedding lies in the CPU's memory, and only the rows that are needed leave it.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    for name, module in list(_linear_layers(decoder)):
        parent, _, last = name.rpartition(".")
        own = "embedding" if name == "head" and config.ties_embeddings else name
        if isinstance(module, nn.Embedding):
            made: nn.Module = EngineEmbedding(weights[f"{own}.weight"], is_on_host=keeps_embedding)
        else:
            made = EngineLinear(weights[f"{own}.weight"], vectors.get(f"{name}.bias"))
        setattr(decoder.get_submodule(parent), last, made)
    for name, parameter in list(decoder.named_parameters()):
        parent, _, last = name.rpartition(".")
        setattr(decoder.get_submodule(parent), last, nn.Parameter(vectors[name].view(parameter.shape), False))
    attend = EngineAttention(is_causal=not config.is_prefix_lm, is_exact=is_exact(weights.values()))
    for module in decoder.modules():
        if isinstance(module, Attention):
            module.attend = attend
    stored = vectors.get("rotary_frequencies")
    device = next(decoder.parameters()).device
    decoder.rotary_frequencies = frequencies(config.rotary, stored).to(device)
    if config.local_rotary:
        decoder.local_frequencies = frequencies(config.local_rotary).to(device)
    return decoder.eval()


def is_exact(weights: Iterable[Weight]) -> bool:
    """Whether all matrices are float32."""
    return all(isinstance(weight, FloatWeight) and weight.matrix.dtype == torch.float32 for weight in weights)


def _linear_layers(decoder: Decoder) -> Iterator[tuple[str, nn.Module]]:
    for name, module in decoder.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and not name.startswith("prefix"):
            yield name, module
