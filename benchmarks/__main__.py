"""Run benchmarks by name, all of them by default: ``make bench``, or ``python -m benchmarks startup search``.

Each prints one JSON line with the machine and the commit. Times are of this machine and this moment; where a line
holds a ``ratio`` it compares two things measured in the same run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import answers, api, chatglm2, cuda, engine, library, perplexity, streaming, viewer

__all__ = ["BENCHMARKS", "main"]

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "startup": library.startup,
    "add": library.add,
    "dense": library.dense,
    "search": library.search,
    "recall": library.recall,
    "fence": library.fence,
    "engine": engine.engine,
    "perplexity": perplexity.perplexity,
    "chatglm2": chatglm2.chatglm2,
    "cuda": cuda.cuda,
    "streaming": streaming.streaming,
    "summary": streaming.summary,
    "api": api.api,
    "citations": answers.citations,
    "refusals": answers.refusals,
    "map-frames": viewer.frames,
    "map-cold": viewer.cold_pictures,
    "map-build": viewer.building,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks in the order of the table; 2 when a name is unknown or the books are missing."""
    corpus = ROOT.parent / "shared" / "corpus"
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if not corpus.is_dir():
        print(f"the books are missing: no folder {corpus}", file=sys.stderr)
        return 2
    for name, measure in BENCHMARKS.items():
        if names and name not in names:
            continue
        began = time.monotonic()
        result = measure(corpus)
        line = {"benchmark": name, **result, "took_s": round(time.monotonic() - began, 1), **_where()}
        print(json.dumps(line, ensure_ascii=False), flush=True)
    return 0


def _where() -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    load = os.getloadavg()[0]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(load, 2),
        "commit": commit.strip() + ("+changes" if changed.strip() else ""),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
