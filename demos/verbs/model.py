"""``novelscope model``: look at a checkpoint, round it into one file, measure it on this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demos.verbs.common import action_maker, add_machine_options, at_least_one, print_json, say, settings_of
from demos.verbs.progress import ProgressLine

if TYPE_CHECKING:
    from core.engine.inspection import CheckpointFacts

__all__ = ["add_arguments", "run"]

PATH_HELP = "a checkpoint folder, a .gguf file, or a .nscope file"
MEGABYTE = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = action_maker(parser)

    info = action("info", "查看模型文件 / say what a checkpoint is, and how large it is in how many bits")
    info.add_argument("path", metavar="PATH", type=Path, help=PATH_HELP)

    quantize = action("quantize", "压缩成一个文件 / round a checkpoint into one .nscope file")
    quantize.add_argument("source", metavar="SRC", type=Path, help="a checkpoint folder or a .gguf file")
    quantize.add_argument("target", metavar="DST", type=Path, help="the .nscope file to write")
    quantize.add_argument("--bits", type=int, choices=(4, 8, 16, 32), default=4, help="width of a weight (default: 4)")
    quantize.add_argument(
        "--group", type=int, choices=(32, 64, 128, 256), default=32, help="weights that share a scale in 4 bits"
    )
    quantize.add_argument(
        "--head-bits", type=int, choices=(4, 8, 16, 32), help="of embedding and output head (default: 8 with 4 bits)"
    )
    quantize.add_argument("--force", action="store_true", help="write over a file that exists")

    bench = action("bench", "测速 / measure reading and writing on this machine")
    bench.add_argument("path", metavar="PATH", type=Path, help=PATH_HELP)
    bench.add_argument("--bits", type=int, choices=(4, 8, 16, 32), help="width of a weight (default: 4, or the file's)")
    add_machine_options(bench)
    bench.add_argument("--prompt", type=at_least_one, metavar="N", default=512, help="tokens to read (default: 512)")
    bench.add_argument("--tokens", type=at_least_one, metavar="N", default=64, help="tokens to write (default: 64)")
    bench.add_argument("--repeats", type=at_least_one, metavar="N", default=3, help="the best run counts (default: 3)")


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    return {"info": _info, "quantize": _quantize, "bench": _bench}[args.action](args)


def _info(args: argparse.Namespace) -> int:
    from core.engine.inspection import inspect_checkpoint

    facts = inspect_checkpoint(args.path.expanduser())
    if args.json:
        print_json(asdict(facts))
        return 0
    for name, value in _rows(facts):
        print(f"{name:<14}{value}")
    if facts.text_trouble:
        say(f"no text can be read or written with it: {facts.text_trouble}")
    return 0


def _rows(facts: CheckpointFacts) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{bits} bits {_megabytes(size)}" for bits, size in facts.sizes.items())
    pieces = "none" if facts.tokenizer_pieces is None else f"{facts.tokenizer_pieces:,} pieces"
    return [
        ("architecture", f"{facts.architecture}, {facts.num_parameters / MEGABYTE:,.0f} million weights"),
        ("layers", f"{facts.num_layers} of {facts.hidden_dim}, feed-forward {facts.feed_forward_dim}"),
        ("heads", f"{facts.num_heads} of {facts.head_dim}, keys and values {facts.num_kv_heads}"),
        ("vocabulary", f"{facts.vocab_size:,}; tokenizer: {pieces}"),
        ("context", f"{facts.context_tokens:,} tokens"),
        ("prompt", f"{facts.prompt_format or 'none'}{'' if facts.is_chat else ', not a chat model'}"),
        ("on disk", f"{facts.form}, {_megabytes(facts.file_bytes)}"),
        ("in memory", sizes),
    ]


def _quantize(args: argparse.Namespace) -> int:
    from core.engine.assistant import quantize
    from core.engine.loading import PrecisionSettings

    precision = PrecisionSettings(bits=args.bits, group_size=args.group, head_bits=args.head_bits)
    source, target = args.source.expanduser(), args.target.expanduser()
    progress = ProgressLine()
    try:
        quantize(
            source,
            target,
            precision=precision,
            overwrite=args.force,
            on_progress=lambda done, total: progress.show(
                f"rounding {done / max(1, total):.0%} of {_megabytes(total)}"
            ),
        )
    finally:
        progress.close()
    size = target.stat().st_size
    if args.json:
        print_json({"file": str(target), "bits": args.bits, "bytes": size})
    else:
        print(f"{target}: {args.bits} bits, {_megabytes(size)}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    import torch

    from core.engine import load
    from core.engine.speed import measure_speed

    settings = settings_of(args)
    torch.set_num_threads(settings.threads)
    progress = ProgressLine()
    try:
        model = load(
            args.path,
            bits=args.bits,
            device=settings.device,
            low_memory=settings.low_memory,
            on_progress=lambda done, total: progress.show(f"loading {done / max(1, total):.0%}"),
        )
        speed = measure_speed(
            model,
            prompt_tokens=args.prompt,
            new_tokens=args.tokens,
            repeats=args.repeats,
            on_progress=lambda done, total: progress.show(f"run {done} of {total}"),
        )
    finally:
        progress.close()
    result: dict[str, Any] = {**asdict(speed), "memory_bytes": model.num_bytes, "device": str(model.device)}
    if args.json:
        print_json(result)
        return 0
    print(f"{model.device}, {speed.threads} threads, weights in memory {_megabytes(model.num_bytes)}")
    print(f"reads {speed.prefill_tokens_per_s:,.1f} tokens/s (a prompt of {speed.prompt_tokens})")
    print(
        f"writes {speed.decode_tokens_per_s:,.1f} tokens/s, after the long prompt {speed.decode_long_tokens_per_s:,.1f}"
    )
    print(
        f"{_megabytes(speed.bytes_per_token)} a token: {speed.bandwidth_share:.0%} of this machine's "
        f"{speed.bandwidth_bytes_per_s / 1e9:.1f} GB/s"
    )
    return 0


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:,.0f} MB"
