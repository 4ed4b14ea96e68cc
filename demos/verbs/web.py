"""``novelscope web``: the page, on the library, with the bundled novel where there is no other."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from demos.verbs.common import open_services, say

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from core.retrieval.library import Library

__all__ = ["add_arguments", "add_bundled_books", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default: this machine)")
    parser.add_argument("--port", metavar="P", type=_port, help="port (default: the first free one from 7860)")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from demos.server import serve

    services = open_services(args)
    add_bundled_books(services.library)
    services.indexer.start()
    try:
        serve(services, host=args.host, port=args.port)
    except KeyboardInterrupt:
        say("novelscope: the page is closed")
    finally:
        services.close()
    return 0


def add_bundled_books(library: Library) -> None:
    """Put the novels that come with the project into a library that is empty."""
    from importlib import resources

    from core.data.reading import novel_from_bytes

    if library.books():
        return
    for file in resources.files("demos").joinpath("books").iterdir():
        if file.name.endswith(".txt"):
            library.add(novel_from_bytes(file.read_bytes(), name=file.name, title=_title_of(file.name)))


def _title_of(name: str) -> str | None:
    from importlib import resources

    facts = resources.files("demos").joinpath("books").joinpath(name.removesuffix(".txt") + ".toml")
    if not facts.is_file():
        return None
    title: str | None = tomllib.loads(facts.read_text(encoding="utf-8")).get("title")
    return title


def _port(given: str) -> int:
    if not given.isdigit() or not 0 <= int(given) < 65536:
        raise argparse.ArgumentTypeError(f"{given!r} is not a port from 0 to 65535")
    return int(given)
