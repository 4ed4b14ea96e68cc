"""The command line: finds the verb, hands it its arguments, and turns whatever happens into an exit code.

    0  success                      3  the book does not say
    1  an error, in one line        130  Ctrl-C
    2  wrong usage

Each verb is a module of ``demos.verbs`` with ``add_arguments`` and ``run``, imported only when it is named, so that
help never waits for a model's libraries. Nothing here knows what a verb does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module

from core import __version__
from core.errors import NovelscopeError
from demos.verbs.common import shared_options

__all__ = ["VERBS", "Verb", "build_parser", "help_text", "main"]

PROGRAM = "novelscope"
DESCRIPTION = "读长篇：提问、引原文、不剧透。Ask a novel, and read the sentence the answer rests on."
EPILOG = (
    "BOOK is a title, an id, or the beginning of an id. Results go to stdout, progress and warnings to stderr. "
    "Exit codes: 0 success, 1 error, 2 wrong usage, 3 the book does not say."
)
DOCS_WIDTH = 100
INTERRUPTED, CLOSED_PIPE = 130, 141


@dataclass(frozen=True, slots=True)
class Verb:
    """A line of the help, and the module that does the work.

    Attributes:
        has_json: whether the verb prints a result that ``--json`` turns into one JSON object.
    """

    module: str
    summary: str
    has_json: bool = True


VERBS = {
    "add": Verb("demos.verbs.add", "把一本书放进书库 / add a book"),
    "list": Verb("demos.verbs.list", "列出书库里的书 / list the books"),
    "remove": Verb("demos.verbs.remove", "从书库删去一本书 / remove a book"),
    "verify": Verb("demos.verbs.verify", "检查一本书的文件 / check a book's files against each other"),
    "rebuild": Verb("demos.verbs.rebuild", "重做一本书的索引 / make a book's indexes again"),
    "search": Verb("demos.verbs.search", "在书中找段落 / find passages"),
    "ask": Verb("demos.verbs.ask", "就书提问，附原文 / ask, and get an answer with quotations"),
    "summarize": Verb("demos.verbs.summarize", "概括全书、几章、前情或一人 / a book, chapters, so far, a person"),
    "map": Verb("demos.verbs.map", "一本书的三维地图 / a book's passages as a map in 3D"),
    "chat": Verb("demos.verbs.chat", "与模型对话 / talk to the model", has_json=False),
    "model": Verb("demos.verbs.model", "查看、压缩、测速模型 / look at, round and measure checkpoints"),
    "web": Verb("demos.verbs.web", "打开网页 / open the page", has_json=False),
    "api": Verb("demos.verbs.api", "角色对话接口 / the character service over HTTP", has_json=False),
    "key": Verb("demos.verbs.key", "接口的密钥 / keys of the character service"),
    "doctor": Verb("demos.verbs.doctor", "检查这台机器 / say what works here, and what mends the rest"),
}
HIDDEN_VERBS = {
    "worker": Verb("demos.verbs.worker", "make missing vectors, then end", has_json=False),
    "map-search": Verb("demos.verbs.map_search", "search for a map's window", has_json=False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    _speak_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader has had enough, as in "| head". What is still buffered must not fail at exit.
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as wrong:
        if "--debug" in arguments:
            traceback.print_exc()
        return _fail(_sentence(wrong), 1)


def build_parser(arguments: Collection[str] = (), *, width: int | None = None) -> argparse.ArgumentParser:
    """The parser; only verbs that occur among ``arguments`` are imported and know their own arguments.

    Args:
        width: columns of the help; None for the terminal's.
    """

    def formatter(prog: str) -> argparse.HelpFormatter:
        made = argparse.HelpFormatter(prog, width=width)
        # argparse forgets how far verbs are indented, and would give the longest one a line of its own.
        made._action_max_length = 6 + max(map(len, VERBS))
        return made

    everywhere = shared_options()
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[everywhere],
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, verb in _all_verbs().items():
        if name in HIDDEN_VERBS and name not in arguments:
            continue
        # A verb without a help text is not listed.
        listed = {"help": verb.summary} if name in VERBS else {}
        subparser = subparsers.add_parser(
            name,
            description=verb.summary,
            parents=[everywhere],
            formatter_class=formatter,
            allow_abbrev=False,
            **listed,  # type: ignore[arg-type]  # typeshed knows no way to leave it out
        )
        if name in arguments:
            import_module(verb.module).add_arguments(subparser)
    return parser


def help_text() -> str:
    """The help of the program and of every verb, as Markdown; ``docs/commands.md`` is a copy."""
    parser = build_parser(list(VERBS), width=DOCS_WIDTH)
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = [
        "# Commands\n\nWhat `--help` prints; `tests/demos/test_cli_usage.py` compares the two.",
        f"```text\n{parser.format_help()}```",
    ]
    for name in VERBS:
        parts += [f"## {name}", f"```text\n{subparsers.choices[name].format_help()}```"]
        for action in subparsers.choices[name]._actions:
            if isinstance(action, argparse._SubParsersAction):
                parts += [f"```text\n{nested.format_help()}```" for nested in action.choices.values()]
    return "\n\n".join(parts) + "\n"


def _run(arguments: Sequence[str]) -> int:
    parser = build_parser(arguments)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        # Not set_defaults: it would reach into the options that the verbs' parsers share.
        args = parser.parse_args(arguments, argparse.Namespace(home=None, json=False, debug=False))
        verb = _all_verbs()[args.verb]
        if args.json and not verb.has_json:
            parser.error(f"{args.verb} prints no result; leave out --json")
    except SystemExit as ended:  # argparse ends this way after help and after wrong usage
        return ended.code if isinstance(ended.code, int) else 2
    code: int = import_module(verb.module).run(args)
    return code


def _all_verbs() -> dict[str, Verb]:
    return {**VERBS, **HIDDEN_VERBS}


def _speak_utf8() -> None:
    """Make the three streams UTF-8 whatever the locale says; a book's text is not ASCII."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def _sentence(wrong: Exception) -> str:
    if isinstance(wrong, NovelscopeError):
        return " ".join(str(wrong).split())
    if isinstance(wrong, OSError) and wrong.strerror:
        return f"{wrong.strerror}: {wrong.filename}" if wrong.filename else wrong.strerror
    return f"{type(wrong).__name__}: {' '.join(str(wrong).split())}; --debug prints where it happened"


def _fail(message: str, code: int) -> int:
    # What was printed so far goes first, or the two streams would mix on a terminal.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)
    return code
