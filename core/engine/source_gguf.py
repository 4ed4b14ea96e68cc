"""Read the weights of a Llama or Gemma 3 model from a GGUF file, under the names and settings of Hugging Face.

llama.cpp changes what it stores: it reorders query and key rows of Llama and adds one to the norms of Gemma. Both are
undone here. Nothing here reads the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.engine.gguf_file import GGUFFile, TensorInfo, read_gguf
from core.engine.gguf_grid import GRID_KINDS, Int4Grid, read_grid
from core.engine.gguf_settings import MODEL_TYPES, describe
from core.engine.sources import TensorEntry
from core.errors import ModelLoadError

__all__ = ["GGUFSource"]

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORM_NAMES = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "gemma3": {
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}
ROPE_DIVISORS = "rope_freqs.weight"
WIDEN_VALUES = 1 << 22  # values unpacked at once, since unpacking needs several times its result


class GGUFSource:
    """A GGUF file as a ``WeightSource``; every tensor comes out as float32.

    Attributes:
        file: the header, for whoever reads the vocabulary.

    Raises:
        ModelLoadError: the file is damaged, lacks settings, or holds another architecture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file: GGUFFile = read_gguf(path)
        except OSError as refusal:
            raise ModelLoadError(f"{path} cannot be read: {refusal}") from refusal
        self._architecture = str(self.file.values.get("general.architecture"))
        if self._architecture not in MODEL_TYPES:
            raise ModelLoadError(
                f"{path}: the architecture is {self._architecture!r}; GGUF files of {' and '.join(MODEL_TYPES)} models "
                "can be read, for others give the folder of the original checkpoint"
            )
        self._infos = {self._full_name(info.name): info for info in self._weights()}
        config = describe(self.file, self._architecture)
        if ROPE_DIVISORS in self.file.tensors:
            config["rope_freq_divisors"] = self.file.widen(self.file.tensors[ROPE_DIVISORS]).tolist()
        self.config: Mapping[str, Any] = config
        self.files: Mapping[str, bytes] = {}
        self.entries: Mapping[str, TensorEntry] = {
            name: TensorEntry(name, info.shape, torch.float32, path.name) for name, info in self._infos.items()
        }
        self.num_bytes = sum(entry.num_bytes for entry in self.entries.values())
        for name, info in self._infos.items():
            self._check_heads(name, info)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and values of each tensor, in the order of the file."""
        for name, info in self._infos.items():
            values = self._widen(info)
            if self._architecture == "gemma3" and name.endswith("norm.weight"):
                values -= 1  # llama.cpp stores 1 + w, the model adds the 1 itself
            order = self._row_order(name)
            yield name, values if order is None else values[order]

    def has_grid(self, name: str) -> bool:
        """Whether ``grid`` gives codes for this tensor."""
        info = self._infos[name]
        return info.kind in GRID_KINDS and len(info.shape) == 2

    def grid(self, name: str) -> Int4Grid | None:
        """The 4-bit codes of a matrix as the file has them, or None where it is stored in another way."""
        if not self.has_grid(name):
            return None
        return read_grid(self.file, self._infos[name], self._row_order(name))

    def _weights(self) -> Iterator[TensorInfo]:
        return (info for info in self.file.tensors.values() if info.name != ROPE_DIVISORS)

    def _full_name(self, name: str) -> str:
        if name in TOP_NAMES:
            return TOP_NAMES[name]
        block, _, rest = name.partition(".")
        number, _, part = rest.partition(".")
        stem, _, ending = part.rpartition(".")
        inner = {**LAYER_NAMES, **NORM_NAMES[self._architecture]}.get(stem)
        if block != "blk" or inner is None or ending not in ("weight", "bias"):
            raise ModelLoadError(f"{self.path}: nothing is known of the tensor {name!r}; give another file")
        return f"model.layers.{number}.{inner}.{ending}"

    def _check_heads(self, name: str, info: TensorInfo) -> None:
        heads = self._num_heads(name)
        if heads and info.shape[0] != heads * self.config["head_dim"]:
            raise ModelLoadError(
                f"{self.path}: the tensor {info.name!r} has {info.shape[0]} rows, wanted {heads} heads of "
                f"{self.config['head_dim']}; fetch the file again"
            )

    def _num_heads(self, name: str) -> int | None:
        """Heads of a query or key projection."""
        if ".q_proj." in name:
            return int(self.config["num_attention_heads"])
        return int(self.config["num_key_value_heads"]) if ".k_proj." in name else None

    def _row_order(self, name: str) -> Tensor | None:
        """For each row of the matrix as Hugging Face has it, its row in the file; None if they agree.

        Source:
            llama.cpp, convert_hf_to_gguf.py, ``LlamaModel.permute`` puts the two halves of a head, whose channels turn
            in pairs, side by side: this is its inverse.
        """
        heads = self._num_heads(name)
        if heads is None or self._architecture != "llama":
            return None
        rows = torch.arange(heads * self.config["head_dim"])
        return rows.view(heads, -1, 2).transpose(1, 2).reshape(-1)

    def _widen(self, info: TensorInfo) -> Tensor:
        # What is not finite in a damaged file is found with the weights; numpy's warning here would name no tensor.
        with np.errstate(all="ignore"):
            return self._widen_rows(info)

    def _widen_rows(self, info: TensorInfo) -> Tensor:
        if len(info.shape) != 2:
            return torch.from_numpy(self.file.widen(info))
        if info.kind in GRID_KINDS:
            return read_grid(self.file, info, None).values()  # three times as fast, and the same to the bit
        values = torch.empty(info.shape)
        step = max(1, WIDEN_VALUES // info.shape[1])
        for first in range(0, info.shape[0], step):
            num_rows = min(step, info.shape[0] - first)
            start = info.start + first * info.row_bytes
            part = TensorInfo(info.name, (num_rows, info.shape[1]), info.kind, start)
            values[first : first + num_rows] = torch.from_numpy(self.file.widen(part))
        return values
