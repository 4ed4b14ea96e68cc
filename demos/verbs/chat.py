"""``novelscope chat``: a conversation in the terminal, or over a pipe, one line a turn."""

from __future__ import annotations

import argparse
import contextlib
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from core.errors import NovelscopeError
from demos.verbs.common import MODEL_HELP, open_services, say, text_argument

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from core.llm.chat_model import NovelChatModel

__all__ = ["add_arguments", "run"]

HELP = "/quit 结束 ends · /clear 清空 forgets the conversation · Ctrl-C 停止回答 stops an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="SPEC", type=text_argument, help=f"who answers: {MODEL_HELP}")
    parser.add_argument("--bits", type=int, choices=(4, 8, 16, 32), help="width of a weight in memory")
    parser.add_argument("--system", metavar="TEXT", type=text_argument, help="what the model is to keep to")


def run(args: argparse.Namespace) -> int:
    """Talk until the input ends or says /quit."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    is_person = sys.stdin.isatty()
    if is_person:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() a line editor
        say(HELP)
    model = open_services(args).chat_model(bits=args.bits)
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
                answer = _speak(model, [*said, HumanMessage(line)])
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


def _speak(model: NovelChatModel, messages: list[BaseMessage]) -> str:
    """Print the answer as it comes; what there is of it. Ctrl-C stops the model, not the conversation."""
    pieces: list[str] = []
    try:
        with closing(model.stream(messages)) as chunks:  # type: ignore[type-var]  # made as a generator
            for chunk in chunks:
                pieces.append(chunk.text)
                print(chunk.text, end="", flush=True)
    except KeyboardInterrupt:
        print(" ……（已停止 / stopped）", end="")
    finally:
        print(flush=True)
    return "".join(pieces)
