"""``novelscope remove``: a book and all that was made of it leave the library."""

from __future__ import annotations

import argparse

from demos.verbs.common import add_book, open_services, print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_book(parser)


def run(args: argparse.Namespace) -> int:
    """Remove one book."""
    info = open_services(args).library.remove(args.book)
    if args.json:
        print_json({"book": info.id, "title": info.title, "removed": True})
    else:
        print(f"removed 《{info.title}》 {info.id}")
    return 0
