"""``novelscope map-search``: the process that searches for a map's window, one question a line.

Lines of JSON come in, ``{"question": TEXT, "until": NUMBER or null}``, and for each an answer goes out, or
``{"error": TEXT}``. It ends when its input does. The page's window starts it, not a person.
"""

from __future__ import annotations

import argparse
import json
import sys

from core.errors import NovelscopeError
from demos.verbs.common import add_book, open_services, print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_book(parser)


def run(args: argparse.Namespace) -> int:
    """Answer until no more is asked."""
    from demos.mapping import search_answer

    library = open_services(args).library
    book_id = library.find(args.book)
    for line in sys.stdin:
        try:
            asked = json.loads(line)
            print_json(search_answer(library, book_id, str(asked["question"]), asked.get("until")))
        except NovelscopeError as wrong:
            print_json({"error": str(wrong)})
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            print_json({"error": f"the question cannot be read ({wrong})"})
    return 0
