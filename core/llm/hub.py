"""Fetch what a checkpoint needs from the Hugging Face hub, into the hub's own cache.

Only data is fetched: weights of one kind, settings, tokenizers. Without a network a repository that was fetched before
is taken from the cache.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import ModelLoadError, UnknownModel

__all__ = ["fetch_repository"]

SETTINGS = ("*.json", "*.model", "*.txt", "*.jinja")
TORCH_FILES = ("*.bin", "*.bin.index.json")
SUBFOLDERS = "*/*"
ONE_SET: tuple[dict[str, Any], ...] = (
    {"allow_patterns": ["*.safetensors", *SETTINGS], "ignore_patterns": [SUBFOLDERS, *TORCH_FILES]},
    {"allow_patterns": [*TORCH_FILES, *SETTINGS], "ignore_patterns": [SUBFOLDERS]},
)
"""What is fetched: settings with safetensors, or with torch files where there are no safetensors. No code."""


def fetch_repository(name: str) -> Path:
    """The folder of a repository's files.

    Raises:
        UnknownModel: there is no such repository, or it cannot be reached and was never fetched.
        ModelLoadError: it is there and may not be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    hub = HfApi()
    try:
        # Not list_repo_files: without a network that one tries again for half a minute.
        names = [file.rfilename for file in hub.model_info(name).siblings or ()]
        has_safetensors = any(file.endswith(".safetensors") and "/" not in file for file in names)
        return Path(hub.snapshot_download(name, **ONE_SET[0 if has_safetensors else 1]))
    except GatedRepoError as refusal:
        raise ModelLoadError(
            f"{name} asks for a permission: accept its licence on huggingface.co, then run: hf auth login"
        ) from refusal
    except (RepositoryNotFoundError, HFValidationError) as absence:
        raise UnknownModel(f"there is no repository {name} on the Hugging Face hub; check the name") from absence
    except Exception as failure:  # each transport that the hub's library has had raises errors of its own
        for patterns in ONE_SET:
            with suppress(OSError):
                return Path(hub.snapshot_download(name, local_files_only=True, **patterns))
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
        raise UnknownModel(
            f"{name} cannot be fetched from the Hugging Face hub ({reason}) and was not fetched before; check the "
            "network, or give the path of a folder"
        ) from failure
