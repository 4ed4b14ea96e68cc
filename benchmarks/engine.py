"""The engine beside llama.cpp, transformers and fastllm: same file, same prompt, same threads, turn about.

Each run is a process of its own, and the engines take turns, so that a slow moment of the machine hits all of them. The
best of the runs counts. Rivals live in ``build/rivals``, made on first use: llama.cpp compiles for ten minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.engine.inspection import inspect_checkpoint
from core.engine.speed import measure_bandwidth

__all__ = ["engine", "model_file"]

ROOT = Path(__file__).resolve().parent.parent
RIVALS, WORK = ROOT / "build" / "rivals", ROOT / "build" / "bench"
PROBE = "benchmarks.speed_probe"
PACKAGES = {"llama_cpp": "llama-cpp-python==0.3.36", "ftllm": "ftllm"}
THREADS, ROUNDS, PROMPT_TOKENS = 2, 3, 512
TIMEOUT_S = 300
Q8_0 = 7
"""llama.cpp's number for this kind of file."""


def engine(corpus: Path) -> dict[str, Any]:
    """Tokens per second of every engine on both builtin models, and the ratios that we aim at."""
    bandwidth = measure_bandwidth()
    result: dict[str, Any] = {"threads": THREADS, "bandwidth_gb_per_s": round(bandwidth / 1e9, 1)}
    for name in ("smollm2-135m", "gemma3-270m"):
        file = model_file(name)
        weights = inspect_checkpoint(file).num_parameters
        eight = _rounded(file, Q8_0, "Q8_0")
        rows = {
            "ours_4": ("ours", file, 4),
            "ours_8": ("ours", file, 8),
            "llama_cpp_file": ("llama_cpp", file, 4),
            "llama_cpp_q8_0": ("llama_cpp", eight, 8),
            "transformers_32": ("transformers", file, 32),
            "transformers_16": ("transformers", file, 16),
            "ftllm_file": ("ftllm", file, 4),
            "ftllm_q8_0": ("ftllm", eight, 8),
        }
        found = _take_turns(rows)
        for label in ("ours_4", "ours_8"):
            run = found[label]
            if "error" not in run:
                run["bits_read_per_weight"] = round(8 * run["bytes_per_token"] / weights, 2)
                run["bandwidth_share"] = round(run["bytes_per_token"] * run["decode_tokens_per_s"] / bandwidth, 2)
        result[name] = {
            "runs": found,
            "decode_to_llama_cpp_same_file": _ratio(found, "ours_4", "llama_cpp_file", "decode_tokens_per_s"),
            "decode_to_llama_cpp_8_bits": _ratio(found, "ours_8", "llama_cpp_q8_0", "decode_tokens_per_s"),
            "decode_after_512_to_llama_cpp": _ratio(found, "ours_4", "llama_cpp_file", "decode_after_512_tokens_per_s"),
            "prefill_to_llama_cpp_same_file": _ratio(found, "ours_4", "llama_cpp_file", "prefill_tokens_per_s"),
            "prefill_to_llama_cpp_8_bits": _ratio(found, "ours_8", "llama_cpp_q8_0", "prefill_tokens_per_s"),
            "decode_to_transformers_32": _ratio(found, "ours_4", "transformers_32", "decode_tokens_per_s"),
        }
    return result


def model_file(name: str) -> Path:
    """The GGUF file of a builtin model; put together under ``build/bench`` where its package has it in parts."""
    from core.llm.models import BUILTIN_MODELS

    model = BUILTIN_MODELS[name]
    found = importlib.util.find_spec(model.module)
    assert found is not None and found.origin is not None, model.install_command
    if not model.needs:
        return next(Path(found.origin).parent.rglob("*.gguf"))
    package: Any = importlib.import_module(model.module)
    whole = WORK / "models" / str(package.MODEL_NAME)
    if not whole.is_file():
        whole.parent.mkdir(parents=True, exist_ok=True)
        package.assemble(whole)
    return whole


def _take_turns(rows: dict[str, tuple[str, Path | None, int]]) -> dict[str, dict[str, Any]]:
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in rows}
    for _ in range(ROUNDS):
        for label, (name, file, bits) in rows.items():
            if not any("error" in run for run in runs[label]):
                runs[label].append(_run(name, file, bits))
                print(f"{label}: {runs[label][-1]}", file=sys.stderr, flush=True)
    return {label: _best(found) for label, found in runs.items()}


def _run(name: str, file: Path | None, bits: int) -> dict[str, Any]:
    python = _python_of(name)
    if python is None or file is None:
        return {"error": f"{name} cannot be installed here; see build/rivals.log"}
    command = [str(python), "-m", PROBE, name, str(file), str(THREADS), str(bits)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer after {TIMEOUT_S} s"}
    last = ["", *done.stdout.strip().splitlines()][-1]
    if done.returncode or not last.startswith("{"):
        lines = f"nothing\n{done.stderr}\n{done.stdout}".strip().splitlines()
        said = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])
        return {"error": f"ended with status {done.returncode}, saying: {said[-300:]}"}
    measured: dict[str, Any] = json.loads(last)
    return measured


def _best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    failed = next((run for run in runs if "error" in run), None)
    if failed is not None:
        return failed
    best: dict[str, Any] = {
        "prefill_tokens_per_s": round(PROMPT_TOKENS / min(run["prefill_s"] for run in runs), 1),
        "decode_tokens_per_s": round(1 / min(run["step_s"] for run in runs), 1),
        "decode_after_512_tokens_per_s": round(1 / min(run["step_long_s"] for run in runs), 1),
    }
    more: dict[str, Any] = {key: runs[0][key] for key in ("bytes_per_token", "memory_bytes") if key in runs[0]}
    return {**best, **more}


def _ratio(found: dict[str, dict[str, Any]], ours: str, theirs: str, key: str) -> float | None:
    if key not in found[ours] or key not in found[theirs]:
        return None
    return round(float(found[ours][key]) / float(found[theirs][key]), 2)


def _python_of(name: str) -> Path | None:
    """The interpreter that has this engine; its environment is made on first use, and None where that fails."""
    if name not in PACKAGES:
        return Path(sys.executable)
    folder = RIVALS if name == "llama_cpp" else RIVALS.with_name(f"rivals-{name}")
    python, failed = folder / "bin" / "python", folder / "failed"
    if failed.exists():
        return None
    if not python.exists():
        print(f"installing {PACKAGES[name]} into {folder} (minutes, once)...", file=sys.stderr, flush=True)
        log = ROOT / "build" / "rivals.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as out:
            made = subprocess.run([sys.executable, "-m", "venv", str(folder)], stdout=out, stderr=out)
            command = [str(python), "-m", "pip", "install", PACKAGES[name]]
            if made.returncode or subprocess.run(command, stdout=out, stderr=out).returncode:
                folder.mkdir(exist_ok=True)
                failed.touch()
                return None
    return python


def _rounded(file: Path, kind: int, label: str) -> Path | None:
    """The model rounded by llama.cpp itself."""
    target = WORK / "rival" / f"{file.stem}-{label}.gguf"
    python = _python_of("llama_cpp")
    if python is None or target.is_file():
        return target if target.is_file() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    code = (
        "import sys, llama_cpp as l; p = l.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]); "
        "p.allow_requantize = True; p.pure = True; "
        "sys.exit(l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p))"
    )
    done = subprocess.run([str(python), "-c", code, str(file), str(target), str(kind)], capture_output=True)
    return target if done.returncode == 0 else None
