"""From what a specification says to a backend, one function a kind.

Each function imports its backend when it is called, so choosing a server never loads torch. Nothing here reads a
specification's text.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.errors import MissingExtra, ModelLoadError, UnknownModel
from core.llm.backend import TokenBackend
from core.llm.models import BUILTIN_MODELS, FORMS, BuiltinModel, LoadOptions, ModelSpec

__all__ = ["open_builtin", "open_hub", "open_path", "open_script", "open_server"]

MODEL_FILES = (".gguf", ".nscope")
ENGINE_DEVICES = ("cpu", "cuda")
"""Devices that the engine has products for; transformers knows more."""


def open_builtin(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A model that a package carries; rounded once and then mapped."""
    from core.llm.backends.engine_backend import round_once

    model = BUILTIN_MODELS[spec.name]
    if not model.is_installed():
        raise MissingExtra(f"the model {model.name} is not installed: {model.install_command}")
    _use_threads(options)
    release = version(model.package.partition("==")[0])
    bits = 4 if options.bits is None else options.bits
    kept = options.cache_dir / f"{model.name}-{release}-{bits}bit.nscope"
    with tempfile.TemporaryDirectory(prefix="novelscope-") as scratch:
        return round_once(
            lambda: _builtin_file(model, Path(scratch)),
            kept,
            options,
            name=model.label,
            bits=bits,
        )


def open_path(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A checkpoint folder, a GGUF file or a low-bit file."""
    path = Path(spec.name).expanduser()
    if not path.exists():
        raise UnknownModel(f"there is no model {spec.name!r}: it is not a path that exists; give {FORMS}")
    if path.is_dir():
        return _open_folder(path, path.resolve().name, options)
    if path.suffix.lower() not in MODEL_FILES:
        raise ModelLoadError(f"{path} is a file, but not a .gguf or .nscope file; give the checkpoint's folder")
    from core.llm.backends.engine_backend import open_engine

    _use_threads(options)
    return open_engine(path, options, name=None, bits=options.bits)


def open_hub(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A repository on the Hugging Face hub."""
    from core.llm.hub import fetch_repository

    return _open_folder(fetch_repository(spec.name), spec.name, options)


def open_server(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A server that speaks the OpenAI protocol."""
    from core.llm.backends.openai_compat import OpenAICompatBackend

    return OpenAICompatBackend(spec.name, base_url=spec.base_url or "", api_key=options.api_key)


def open_script(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A script that says one thing to everything."""
    from core.llm.backends.scripted import ScriptedBackend

    return ScriptedBackend(spec.name, serves_many=True)


def _open_folder(folder: Path, name: str, options: LoadOptions) -> TokenBackend:
    """A checkpoint in the engine, or in transformers where only that can run it."""
    _use_threads(options)
    if _is_for_engine(folder, options):
        from core.llm.backends.engine_backend import open_engine

        return open_engine(folder, options, name=name, bits=options.bits)
    from core.llm.backends.transformers_backend import TransformersBackend

    return TransformersBackend(folder, name=name, bits=options.bits, device=options.device)


def _is_for_engine(folder: Path, options: LoadOptions) -> bool:
    from core.llm.backends.engine_backend import is_known_architecture

    if options.device is not None and options.device.partition(":")[0] not in ENGINE_DEVICES:
        return False
    config = _peek(folder / "config.json")
    # The engine says what is wrong with a file that cannot be read.
    return config is None or is_known_architecture(config)


def _peek(path: Path) -> dict[str, Any] | None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _use_threads(options: LoadOptions) -> None:
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)


def _builtin_file(model: BuiltinModel, scratch: Path) -> Path:
    """The model's file as its package has it; put together in ``scratch`` where it comes in parts."""
    if model.needs:
        package: Any = importlib.import_module(model.module)
        whole = scratch / str(package.MODEL_NAME)
        try:
            package.assemble(whole)
        except (OSError, ValueError) as wrong:
            raise ModelLoadError(f"the parts of {whole.name} do not join ({wrong}); install them again") from wrong
        return whole
    # The package is only looked at: importing it would need a compiled llama.cpp.
    found = importlib.util.find_spec(model.module)
    folders = found.submodule_search_locations if found else None
    files = sorted(file for folder in folders or () for file in Path(folder).rglob("*.gguf"))
    if not files:
        raise ModelLoadError(f"{model.package} holds no .gguf file; install it again: {model.install_command}")
    return files[0]
