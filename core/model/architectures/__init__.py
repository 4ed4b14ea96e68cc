"""The supported families: for each, its configuration and the map from its published tensor names to ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from core.errors import ModelLoadError
from core.model.architectures.placement import Placement
from core.model.config import DecoderConfig, Fields

__all__ = ["ARCHITECTURES", "Placement", "find_architecture", "placements", "read_config"]

ARCHITECTURES = {
    "chatglm": "core.model.architectures.chatglm",
    "chatglm2": "core.model.architectures.chatglm2",
    "glm": "core.model.architectures.glm",
    "glm4": "core.model.architectures.glm",
    "llama": "core.model.architectures.llama",
    "moss": "core.model.architectures.moss",
    "gemma3": "core.model.architectures.gemma3",
}
"""Module of each architecture; it has ``read_config(fields, architecture)`` and ``placements(config, prefix)``."""

V1_SIGN, V2_SIGN = "transformer.word_embeddings.weight", "transformer.embedding.word_embeddings.weight"


def find_architecture(config: Mapping[str, Any], names: Collection[str] = ()) -> str:
    """Which architecture a checkpoint has.

    Args:
        config: its ``config.json``.
        names: of its tensors, the surest sign, since configurations get edited.

    Raises:
        ModelLoadError: none of ours.
    """
    model_type = config.get("model_type")
    if V2_SIGN in names:
        return "chatglm2"
    if V1_SIGN in names:
        return "chatglm"
    if model_type == "chatglm":
        if "padded_vocab_size" in config or "multi_query_attention" in config:
            return "chatglm2"
        if "position_encoding_2d" in config or "inner_hidden_size" in config:
            return "chatglm"
    if model_type == "gemma3_text" or (model_type == "gemma3" and isinstance(config.get("text_config"), Mapping)):
        return "gemma3"
    if isinstance(model_type, str) and model_type in ("glm", "glm4", "llama", "moss"):
        return model_type
    raise ModelLoadError(
        f"config.json: model_type is {model_type!r}, which this engine does not know; "
        "wanted chatglm, glm, glm4, llama, moss, gemma3 or gemma3_text"
    )


def read_config(config: Mapping[str, Any], names: Collection[str] = ()) -> DecoderConfig:
    """The decoder that a checkpoint describes.

    Raises:
        ModelLoadError: a field is missing, is not of its type, or asks for what is not built; the message names it.
    """
    architecture = find_architecture(config, names)
    module = importlib.import_module(ARCHITECTURES[architecture])
    read: Callable[[Fields, str], DecoderConfig] = module.read_config
    return read(Fields(config), architecture)


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each published tensor goes, by its published name.

    Args:
        names: of the checkpoint's tensors, for families that are published with and without a prefix to all names.
    """
    module = importlib.import_module(ARCHITECTURES[config.architecture])
    place: Callable[[DecoderConfig, Collection[str]], dict[str, Placement]] = module.placements
    return place(config, names)
