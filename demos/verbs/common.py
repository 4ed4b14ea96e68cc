"""What several verbs share: kinds of arguments, the objects they work with, and ways to print.

Importing this must stay cheap: every ``--help`` does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from demos.settings import Settings

if TYPE_CHECKING:
    from demos.wiring import Services

__all__ = [
    "action_maker",
    "add_book",
    "add_machine_options",
    "add_question",
    "at_least_one",
    "columns_of",
    "one_line",
    "open_services",
    "pad",
    "port_argument",
    "print_json",
    "readable",
    "say",
    "settings_of",
    "shared_options",
    "text_argument",
]

MODEL_HELP = "builtin:NAME, a folder, a .gguf or .nscope file, hf:OWNER/NAME, or openai:MODEL@BASE_URL"


def shared_options() -> argparse.ArgumentParser:
    """The options that every verb takes, as a parent for its parser."""
    # SUPPRESS: the verb's parser would otherwise put its defaults over what was given before the verb.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--home", metavar="DIR", help="folder of the library (default: NOVELSCOPE_HOME)")
    shared.add_argument("--json", action="store_true", help="print the result as one JSON object")
    shared.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return shared


def action_maker(parser: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """What adds an action to a verb that has several, by its name and a line of help, and gives its parser."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name,
            help=summary,
            description=summary,
            parents=[shared_options()],
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        return made

    return add


def settings_of(args: argparse.Namespace) -> Settings:
    """Settings from the flags that were given, then the environment."""
    return Settings.from_environment(
        home=args.home,
        **{name: getattr(args, name, None) for name in ("model", "threads", "device", "low_memory")},
    )


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """--threads, --device and --low-memory: what of the machine a model may take."""
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="of the CPU (default: NOVELSCOPE_THREADS)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument("--low-memory", action="store_true", help="take less memory, at some cost in speed")


def open_services(args: argparse.Namespace) -> Services:
    """The objects that verbs work with."""
    from demos.wiring import Services

    return Services(settings_of(args))


def add_book(parser: argparse.ArgumentParser) -> None:
    """BOOK."""
    parser.add_argument("book", metavar="BOOK", type=text_argument, help="title, id, or beginning of an id")


def add_question(parser: argparse.ArgumentParser) -> None:
    """BOOK, QUESTION and --until."""
    add_book(parser)
    parser.add_argument("question", metavar="QUESTION", type=text_argument, help="what to look for, in words")
    parser.add_argument(
        "--until", metavar="N", type=at_least_one, help="read chapters up to N only: nothing later is told"
    )


def text_argument(given: str) -> str:
    """An argument that is text, not a path: UTF-8 whatever the locale, and not empty."""
    try:
        text = os.fsencode(given).decode("utf-8")
    except UnicodeDecodeError:
        text = readable(given)
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def at_least_one(given: str) -> int:
    """An argument that is a whole number from 1."""
    try:
        number = int(given)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{given!r} is not a whole number from 1")
    return number


def port_argument(given: str) -> int:
    """An argument that is a port; 0 takes any free one."""
    if not given.isdigit() or not 0 <= int(given) < 65536:
        raise argparse.ArgumentTypeError(f"{given!r} is not a port from 0 to 65535")
    return int(given)


def print_json(value: dict[str, Any]) -> None:
    """The result, as the only thing on stdout."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(message: str) -> None:
    """A line for the person, on stderr."""
    print(message, file=sys.stderr, flush=True)


def one_line(text: str) -> str:
    """The text without line breaks and indents."""
    return " ".join(text.split())


def readable(text: str) -> str:
    """Text that came from a file's name: bytes that are not UTF-8 are most often GB18030."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    name = os.fsencode(text)
    try:
        return name.decode("gb18030")
    except UnicodeDecodeError:
        return name.decode("utf-8", errors="replace")


def columns_of(text: str) -> int:
    """How wide the text is on a terminal, where a Chinese character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def pad(text: str, columns: int) -> str:
    """The text with spaces up to that many columns."""
    return text + " " * max(0, columns - columns_of(text))
