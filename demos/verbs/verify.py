"""``novelscope verify``: whether a book's files on disk agree with each other."""

from __future__ import annotations

import argparse

from demos.verbs.common import add_book, open_services, print_json, say

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_book(parser)


def run(args: argparse.Namespace) -> int:
    """Check one book; 1 when something is wrong with it."""
    from core.errors import DamagedBook
    from core.retrieval.verify import verify_book

    library = open_services(args).library
    book_id = library.find(args.book)
    report = verify_book(library, book_id)
    try:
        info = library.info(book_id)
    except DamagedBook:
        info = None  # the report says so
    for note in report.notes:
        say(f"note: {note}")
    if args.json:
        dense = info.to_dict()["dense"] if info else None
        print_json({"book": book_id, "ok": report.ok, "problems": list(report.problems), "dense": dense})
    elif report.ok and info:
        print(f"《{info.title}》 is whole; {info.dense_done:,} of {info.chunks:,} vectors are made")
    else:
        for problem in report.problems:
            print(problem)
    return 0 if report.ok else 1
