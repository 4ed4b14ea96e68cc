"""``novelscope list``: what the library holds."""

from __future__ import annotations

import argparse

from demos.verbs.common import columns_of, open_services, pad, print_json, say

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace) -> int:
    """Print the books in the order in which they were added."""
    infos = open_services(args).library.books()
    if args.json:
        print_json({"books": [info.to_dict() for info in infos]})
        return 0
    if not infos:
        say("the library is empty; put a book into it with: novelscope add FILE")
        return 0
    rows = [("BOOK", "TITLE", "CHAPTERS", "CHARACTERS", "ENCODING", "VECTORS")]
    for info in infos:
        share = f"{100 * info.dense_done // max(1, info.chunks)}%"
        rows.append((info.id, info.title, f"{info.chapters:,}", f"{info.characters:,}", info.encoding, share))
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
