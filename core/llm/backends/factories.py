"""From what a specification says to a backend, one function a kind.

Each function imports its backend when it is called, so choosing a server never loads torch. Nothing here reads a
specification's text.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from pathlib import Path

from core.errors import MissingExtra, ModelLoadError, UnknownModel
from core.llm.backend import TokenBackend
from core.llm.models import BUILTIN_MODELS, FORMS, LoadOptions, ModelSpec

__all__ = ["open_builtin", "open_hub", "open_path", "open_script", "open_server"]


def open_builtin(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A model that a package carries."""
    model = BUILTIN_MODELS[spec.name]
    if not model.is_installed():
        raise MissingExtra(f"the model {model.name} is not installed: {model.install_command}")
    if model.needs:
        return _open_joined(model.module, model.name, options)
    # The package is only looked at: importing it would need a compiled llama.cpp.
    found = importlib.util.find_spec(model.module)
    folders = found.submodule_search_locations if found else None
    files = sorted(file for folder in folders or () for file in Path(folder).rglob("*.gguf"))
    if not files:
        raise ModelLoadError(f"{model.package} holds no .gguf file; install it again: {model.install_command}")
    return _open_gguf(files[0], model.name, options)


def open_path(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A checkpoint folder or a GGUF file."""
    path = Path(spec.name).expanduser()
    if not path.exists():
        raise UnknownModel(f"there is no model {spec.name!r}: it is not a path that exists; give {FORMS}")
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelLoadError(f"{path} is a file, but not a .gguf file; give the checkpoint's folder")
        return _open_gguf(path, path.stem, options)
    return _open_checkpoint(path, path.resolve().name, options)


def open_hub(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A repository on the Hugging Face hub."""
    return _open_checkpoint(spec.name, spec.name, options)


def open_server(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A server that speaks the OpenAI protocol."""
    from core.llm.backends.openai_compat import OpenAICompatBackend

    return OpenAICompatBackend(spec.name, base_url=spec.base_url or "", api_key=options.api_key)


def open_script(spec: ModelSpec, options: LoadOptions) -> TokenBackend:
    """A script that says one thing to everything."""
    from core.llm.backends.scripted import ScriptedBackend

    return ScriptedBackend(spec.name)


def _open_checkpoint(checkpoint: Path | str, name: str, options: LoadOptions) -> TokenBackend:
    from core.llm.backends.transformers_backend import TransformersBackend

    return TransformersBackend(checkpoint, name=name, bits=options.bits, device=options.device)


def _open_gguf(path: Path, name: str, options: LoadOptions) -> TokenBackend:
    from core.llm.backends.gguf_checkpoint import fingerprint

    return _open_unpacked(path, f"{name}-{fingerprint(path)}", name, options)


def _open_joined(module: str, name: str, options: LoadOptions) -> TokenBackend:
    """A model whose package brings its file in parts; joined once, and not at all where it is unpacked already."""
    package = importlib.import_module(module)
    digest: str = package.EXPECTED_SHA256
    whole = options.cache_dir / package.MODEL_NAME
    return _open_unpacked(whole, f"{name}-{digest[:12]}", name, options, joiner=package)


def _open_unpacked(
    path: Path, folder_name: str, name: str, options: LoadOptions, *, joiner: object | None = None
) -> TokenBackend:
    from core.llm.backends.checkpoint import choose_bits, torch_dtype
    from core.llm.backends.gguf_checkpoint import unpack_gguf

    bits = choose_bits(options.bits, options.device)
    folder = options.cache_dir / f"{folder_name}-{bits}bit"
    if not (folder / "config.json").is_file():
        if joiner is not None and not path.is_file():
            _join(joiner, path)
        unpack_gguf(path, folder, weight_dtype=torch_dtype(bits))
    return _open_checkpoint(folder, name, options)


def _join(package: object, whole: Path) -> None:
    whole.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{whole.name}-", dir=whole.parent) as scratch:
        try:
            package.assemble(Path(scratch) / whole.name)  # type: ignore[attr-defined]
        except (OSError, ValueError) as wrong:
            raise ModelLoadError(f"the parts of {whole.name} do not join ({wrong}); install them again") from wrong
        os.replace(Path(scratch) / whole.name, whole)
