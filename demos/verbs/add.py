"""``novelscope add``: a file becomes a book that can be asked at once; its vectors follow in the background."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demos.verbs.common import one_line, open_services, print_json, readable, say, text_argument
from demos.verbs.progress import ProgressLine, duration

if TYPE_CHECKING:
    from core.retrieval.indexing import EmbeddingProgress
    from core.retrieval.library import BookInfo, Library

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a .txt, .md or .epub file")
    parser.add_argument("--title", metavar="T", type=text_argument, help="the book's name (default: its own)")
    parser.add_argument("--encoding", metavar="E", help="of a text file (default: found by evidence)")
    parser.add_argument("--wait", action="store_true", help="stay until every passage has its vector")


def run(args: argparse.Namespace) -> int:
    """Add a book, and see to it that its vectors get made."""
    from dataclasses import replace

    from core.data.reading import read_novel
    from demos.indexer import spawn_worker

    services = open_services(args)
    novel = read_novel(args.file, title=args.title and one_line(args.title), encoding=args.encoding)
    novel = replace(novel, title=readable(novel.title))
    progress = ProgressLine()
    try:
        added = services.library.add(
            novel, lambda done, total: progress.show(f"《{novel.title}》: passage {done:,} of {total:,}")
        )
    finally:
        progress.close()
    info = added.info
    if not added.is_new:
        say(f"《{info.title}》 is in the library already; nothing was changed")
    if not info.is_dense and args.wait:
        _wait(services.library, info)
        info = services.library.info(info.id)
    elif not info.is_dense:
        spawn_worker(services.settings)
        say(f"{info.dense_done:,} of {info.chunks:,} vectors are made; the rest follows in the background")
    if args.json:
        print_json(info.to_dict())
    else:
        print(f"《{info.title}》 {info.id}: {info.chapters} chapters, {info.characters:,} characters, {info.encoding}")
    return 0


def _wait(library: Library, info: BookInfo) -> None:
    from demos.indexer import finish_vectors

    progress, began, done_at_first = ProgressLine(), time.monotonic(), info.dense_done

    def heard(now: EmbeddingProgress) -> None:
        message = f"《{now.title}》: vector {now.done:,} of {now.total:,}"
        if now.book_id == info.id and done_at_first < now.done < now.total:
            pace_s = (time.monotonic() - began) / (now.done - done_at_first)
            message += f", {duration(pace_s * (now.total - now.done))} left"
        progress.show(message)

    try:
        finish_vectors(library, info.id, heard)
    except KeyboardInterrupt:
        progress.close()
        made = library.info(info.id)
        say(
            f"stopped with {made.dense_done:,} of {made.chunks:,} vectors, which stay; adding the same file again, "
            "or novelscope web, goes on from there"
        )
        raise
    finally:
        progress.close()
