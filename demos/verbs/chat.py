"""``novelscope chat``: a conversation in the terminal, or over a pipe, one line a turn."""

from __future__ import annotations

import argparse
import contextlib
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from core.errors import NovelscopeError
from demos.verbs.common import MODEL_HELP, add_machine_options, open_services, say, text_argument
from demos.verbs.progress import ProgressLine

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from core.llm.chat_model import NovelChatModel

__all__ = ["add_arguments", "run"]

HELP = "/quit 结束 ends · /clear 清空 forgets the conversation · Ctrl-C 停止回答 stops an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group()
    who.add_argument("spec", metavar="SPEC", nargs="?", type=text_argument, help=f"who answers: {MODEL_HELP}")
    who.add_argument("--model", metavar="SPEC", type=text_argument, help="the same")
    parser.add_argument("--bits", type=int, choices=(4, 8, 16, 32), help="width of a weight in memory")
    add_machine_options(parser)
    parser.add_argument("--greedy", action="store_true", help="always the likeliest word: the same answer every time")
    parser.add_argument("--system", metavar="TEXT", type=text_argument, help="what the model is to keep to")


def run(args: argparse.Namespace) -> int:
    """Talk until the input ends or says /quit."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    is_person = sys.stdin.isatty()
    if is_person:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() a line editor
        say(HELP)
    args.model = args.spec or args.model
    progress = ProgressLine()
    try:
        model = open_services(args).chat_model(
            bits=args.bits,
            on_progress=lambda done, total: progress.show(f"loading the model: {done / max(1, total):.0%}"),
        )
    finally:
        progress.close()
    if is_person and (facts := model.backend.facts):
        say(f"{model.backend.name}: {facts.architecture}, {facts.bits} bits, {facts.memory_bytes / 1e6:,.0f} MB")
    sampling: dict[str, Any] = {"temperature": 0.0} if args.greedy else {}
    opening: list[BaseMessage] = [SystemMessage(args.system)] if args.system else []
    said = list(opening)
    while (line := _next_line(is_person)) is not None:
        if line == "/quit":
            break
        if line == "/clear":
            said = list(opening)
        elif line.startswith("/"):
            say(HELP)
        elif line:
            try:
                answer = _speak(model, [*said, HumanMessage(line)], sampling)
            except NovelscopeError as wrong:
                if not is_person:
                    raise
                say(f"novelscope: {wrong}")
                continue
            said += [HumanMessage(line), AIMessage(answer)]
    return 0


def _next_line(is_person: bool) -> str | None:
    """What is said next, stripped; None at the end."""
    while True:
        try:
            if is_person:
                return input("> ").strip()
            line = sys.stdin.readline()
            return line.strip() if line else None
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            if not is_person:
                raise
            print()


def _speak(model: NovelChatModel, messages: list[BaseMessage], sampling: dict[str, Any]) -> str:
    """Print the answer as it comes; what there is of it. Ctrl-C stops the model, not the conversation."""
    pieces: list[str] = []
    try:
        with closing(model.stream(messages, **sampling)) as chunks:  # type: ignore[type-var]  # made as a generator
            for chunk in chunks:
                pieces.append(chunk.text)
                print(chunk.text, end="", flush=True)
    except KeyboardInterrupt:
        print(" ……（已停止 / stopped）", end="")
    finally:
        print(flush=True)
    return "".join(pieces)
