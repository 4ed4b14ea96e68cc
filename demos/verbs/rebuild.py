"""``novelscope rebuild``: everything that derives from a book's text is made again; vectors that fit are kept."""

from __future__ import annotations

import argparse

from demos.verbs.common import add_book, open_services, print_json, say
from demos.verbs.progress import ProgressLine

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_book(parser)


def run(args: argparse.Namespace) -> int:
    """Rebuild one book, and have its missing vectors made."""
    from demos.indexer import spawn_worker

    services = open_services(args)
    progress = ProgressLine()
    try:
        info = services.library.rebuild(args.book, lambda done, total: progress.show(f"passage {done:,} of {total:,}"))
    finally:
        progress.close()
    if not info.is_dense:
        spawn_worker(services.settings)
        say(f"{info.dense_done:,} of {info.chunks:,} vectors are kept; the rest follows in the background")
    if args.json:
        print_json(info.to_dict())
    else:
        print(f"rebuilt 《{info.title}》 {info.id}")
    return 0
