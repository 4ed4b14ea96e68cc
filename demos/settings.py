"""Settings of the program: a flag beats the environment beats the default.

This is the only module that reads the environment. ``Settings.from_environment`` takes what the command line gave
and fills the rest; every mistake is reported at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import SettingsError

__all__ = ["VARIABLES", "Settings", "default_threads", "has_display", "is_space", "quiet_analytics"]

VARIABLES = {
    "NOVELSCOPE_HOME": "folder of the library (default: ~/.local/share/novelscope)",
    "NOVELSCOPE_MODEL": "who answers: builtin:NAME, a folder, .gguf or .nscope, hf:OWNER/NAME, openai:MODEL@BASE_URL",
    "NOVELSCOPE_EMBEDDER": "embedding model: e5-small, a folder, or hf:OWNER/NAME",
    "NOVELSCOPE_CHROMA": "http://HOST:PORT of a Chroma server (default: a folder inside the library)",
    "NOVELSCOPE_THREADS": "threads of the CPU for the model (default: all, but for one where there are four or more)",
    "NOVELSCOPE_DEVICE": "where the model runs: cpu, cuda or cuda:N (default: an NVIDIA GPU where there is one)",
    "NOVELSCOPE_LOW_MEMORY": "1: the model takes less memory and is somewhat slower (default: 0)",
    "NOVELSCOPE_API_KEY": "key for an openai: model's server",
    "NOVELSCOPE_LANG": "language of the command line, zh or en (default: from the locale)",
}
DEFAULT_MODEL, DEFAULT_EMBEDDER = "builtin:gemma3-270m", "e5-small"
MOST_THREADS = 1024


def default_threads() -> int:
    """All cores that this process may use, but for one where there are four or more: the page is served there."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return cores if cores < 4 else cores - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the whole program needs to know.

    Attributes:
        home: folder of the library; models' converted weights are cached in it too.
        model: specification of the model that answers (``core.llm.models``).
        threads: of the CPU that the model may take.
        device: where the model runs, as torch names devices; None: an NVIDIA GPU where there is one.
        low_memory: the model takes less memory, at some cost in speed.
        language: ``"zh"`` or ``"en"``: what the command line speaks.
    """

    home: Path
    model: str = DEFAULT_MODEL
    embedder: str = DEFAULT_EMBEDDER
    chroma_url: str | None = None
    threads: int = field(default_factory=default_threads)
    device: str | None = None
    low_memory: bool = False
    api_key: str | None = None
    language: str = "zh"

    def __repr__(self) -> str:
        # Logged and shown in errors; the key must never be.
        return f"Settings(home={str(self.home)!r}, model={self.model!r}, embedder={self.embedder!r})"

    @classmethod
    def from_environment(
        cls,
        *,
        home: str | None = None,
        model: str | None = None,
        threads: int | None = None,
        device: str | None = None,
        low_memory: bool | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings from flags, then the environment, then defaults.

        Args:
            home, model, threads, device, low_memory: the flags' values; None where a flag was not given.
            environment: read instead of the process's own.

        Raises:
            SettingsError: a variable has a value that cannot work; all such variables are named together.
        """
        env = os.environ if environment is None else environment
        mistakes = [
            f"{name} is not a setting; there are {', '.join(VARIABLES)}"
            for name in env
            if name.startswith("NOVELSCOPE_") and name not in VARIABLES
        ]
        language = env.get("NOVELSCOPE_LANG") or _language_of(env)
        if language not in ("zh", "en"):
            mistakes.append(f"NOVELSCOPE_LANG is {language!r}, wanted zh or en")
        given_threads = env.get("NOVELSCOPE_THREADS") or str(default_threads())
        if not given_threads.isdecimal() or not 1 <= int(given_threads) <= MOST_THREADS:
            mistakes.append(f"NOVELSCOPE_THREADS is {given_threads!r}, wanted a whole number from 1 to {MOST_THREADS}")
        given_low_memory = env.get("NOVELSCOPE_LOW_MEMORY") or "0"
        if given_low_memory not in ("0", "1"):
            mistakes.append(f"NOVELSCOPE_LOW_MEMORY is {given_low_memory!r}, wanted 0 or 1")
        place = Path(home or env.get("NOVELSCOPE_HOME") or Path.home() / ".local/share/novelscope").expanduser()
        if place.exists() and not place.is_dir():
            mistakes.append(f"the library's folder {place} is a file; name a folder with --home or NOVELSCOPE_HOME")
        if mistakes:
            raise SettingsError("; ".join(mistakes))
        return cls(
            home=place.absolute(),
            model=_absolute(model or env.get("NOVELSCOPE_MODEL") or DEFAULT_MODEL),
            embedder=_absolute(env.get("NOVELSCOPE_EMBEDDER") or DEFAULT_EMBEDDER),
            chroma_url=env.get("NOVELSCOPE_CHROMA") or None,
            threads=threads or int(given_threads),
            device=device or env.get("NOVELSCOPE_DEVICE") or None,
            low_memory=low_memory or given_low_memory == "1",
            api_key=env.get("NOVELSCOPE_API_KEY") or None,
            language=language,
        )

    def environment(self) -> dict[str, str]:
        """The process's environment for a process of ours in another folder: what names a path names the same."""
        return {**os.environ, "NOVELSCOPE_HOME": str(self.home), "NOVELSCOPE_EMBEDDER": self.embedder}


def is_space(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this runs as a Hugging Face Space, which must listen beyond loopback to be seen."""
    return bool((os.environ if environment is None else environment).get("SPACE_ID"))


def has_display(environment: Mapping[str, str] | None = None) -> bool:
    """Whether a window can be shown: on Linux a display server must be named."""
    env = os.environ if environment is None else environment
    return sys.platform in ("darwin", "win32") or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def quiet_analytics() -> None:
    """Keep Gradio from calling its maker; it looks at the environment when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def _absolute(spec: str) -> str:
    """A path made absolute: the background worker runs in another folder. Any other specification as it is."""
    # os.path, unlike Path, takes whatever cannot be a path for one that does not exist.
    path = os.path.expanduser(spec)
    return os.path.abspath(path) if os.path.exists(path) and spec != DEFAULT_EMBEDDER else spec


def _language_of(env: Mapping[str, str]) -> str:
    locale = next((env[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if env.get(name)), "")
    return "en" if locale.lower().startswith("en") else "zh"
