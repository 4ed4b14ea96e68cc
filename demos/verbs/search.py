"""``novelscope search``: passages of a book, best first."""

from __future__ import annotations

import argparse
from typing import Any

from core.retrieval.results import Coverage, ScoredChunk
from demos.verbs.common import add_question, at_least_one, one_line, open_services, print_json, say

__all__ = ["add_arguments", "run", "say_coverage"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser)
    parser.add_argument("-k", metavar="N", type=at_least_one, default=10, help="how many passages (default: 10)")


def run(args: argparse.Namespace) -> int:
    """Print the passages found."""
    library = open_services(args).library
    found = library.search(library.find(args.book), args.question, top_k=args.k, until_chapter=args.until)
    say_coverage(found.coverage)
    if args.json:
        print_json({"results": [_result(passage) for passage in found.passages]})
        return 0
    if not found.passages:
        say("书中没有找到相关的段落 / nothing in the book matches")
    for rank, passage in enumerate(found.passages, 1):
        print(f"{rank}. {passage.chapter_title}\n   {one_line(passage.text)}\n")
    return 0


def say_coverage(coverage: Coverage) -> None:
    """Tell what a search could not see yet."""
    if not coverage.is_complete:
        say(
            f"note: {coverage.dense_done:,} of {coverage.dense_total:,} passages could be searched by meaning, "
            "all of them by words"
        )


def _result(passage: ScoredChunk) -> dict[str, Any]:
    whole = passage.to_dict()
    return {name: whole[name] for name in ("chapter", "start", "end", "text", "score")}
