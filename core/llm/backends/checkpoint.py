"""Read a checkpoint with transformers, or say in one sentence why it cannot be read.

Weights are safetensors, or pickles opened with ``weights_only``; code of a checkpoint is never run. Nothing here makes
tokens.
"""

from __future__ import annotations

import inspect
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MissingExtra, ModelLoadError, SettingsError, UnknownModel

if TYPE_CHECKING:
    from torch import dtype

__all__ = ["choose_bits", "load_checkpoint", "torch_dtype"]


def choose_bits(bits: int | None, device: str | None) -> int:
    """16 or 32: as asked, else what the device multiplies fastest.

    Raises:
        SettingsError: another number of bits is asked for.
    """
    if bits is not None:
        if bits not in (16, 32):
            raise SettingsError(f"bits is {bits}; this backend computes in 16 or 32")
        return bits
    import torch

    if device not in (None, "cpu") or torch.cuda.is_available():
        return 16
    # Without instructions for bfloat16 a CPU widens every weight it reads, which costs more than reading float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return 16 if is_x86 and any(getattr(torch.cpu, name, bool)() for name in checks) else 32


def torch_dtype(bits: int) -> dtype:
    import torch

    return torch.bfloat16 if bits == 16 else torch.float32


def load_checkpoint(folder: Path, *, bits: int | None, device: str | None) -> tuple[Any, Any]:
    """The model, ready to run, and its tokenizer.

    Args:
        folder: of a Hugging Face checkpoint.

    Raises:
        UnknownModel: there is no such folder.
        ModelLoadError: files are missing or damaged, or the model is one that transformers cannot run by itself.
        SettingsError: bits is neither 16 nor 32.
    """
    bits = choose_bits(bits, device)
    _check_folder(folder)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    source = str(folder)
    with _one_sentence(source), _quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=False,
            local_files_only=True,
            weights_only=True,
            dtype=torch_dtype(bits),
            output_loading_info=True,
        )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelLoadError(
            f"{source}: the weights lack {len(missing)} tensors, {missing[0]} among them; fetch the checkpoint again"
        )
    if not {"past_key_values", "logits_to_keep"} <= set(inspect.signature(model.forward).parameters):
        raise ModelLoadError(f"{source}: a {type(model).__name__} keeps no key-value cache and cannot be streamed here")
    try:
        return model.to(place).eval(), tokenizer
    except RuntimeError as refusal:
        raise ModelLoadError(f"{source} does not fit on {place}: {_first_line(refusal)}") from refusal


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UnknownModel(f"{folder} is not a folder; give a checkpoint folder or a .gguf file that exists")
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelLoadError(f"{folder} holds no config.json; give the folder of a Hugging Face checkpoint")
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        raise ModelLoadError(f"{folder} holds no weights (*.safetensors or *.bin); fetch the whole checkpoint")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        model_type = config.get("model_type")
    except (ValueError, AttributeError) as wrong:
        raise ModelLoadError(f"{config_path} is not a JSON object ({wrong}); fetch the checkpoint again") from wrong
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        reason = "it needs code of its own, which is never run" if "auto_map" in config else "transformers lacks it"
        raise ModelLoadError(
            f"{folder}: no model of type {model_type!r} can be read, since {reason}; use a checkpoint converted for "
            "transformers (its name often ends in -hf)"
        )


@contextmanager
def _one_sentence(source: str) -> Iterator[None]:
    """Turn what transformers raises for a bad checkpoint into one error of ours."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, EOFError) as damage:
        raise ModelLoadError(f"{source}: the weights are damaged ({_first_line(damage)}); fetch them again") from damage
    except ImportError as missing:
        raise MissingExtra(f"{source} needs another package: {_first_line(missing)}") from missing
    except OSError as absence:
        raise ModelLoadError(f"{source} cannot be loaded: {_first_line(absence)}") from absence
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as wrong:
        raise ModelLoadError(f"{source} cannot be read as a language model: {_first_line(wrong)}") from wrong


@contextmanager
def _quiet_loading() -> Iterator[None]:
    from transformers.utils import logging

    bars: Any = logging  # its switches carry no types
    was_shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            bars.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
