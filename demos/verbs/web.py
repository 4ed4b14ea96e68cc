"""``novelscope web``: the page, on the library, with the bundled novel where there is no other."""

from __future__ import annotations

import argparse

from demos.verbs.api import add_service_options, service_settings
from demos.verbs.common import open_services, port_argument, say

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default: this machine)")
    parser.add_argument("--port", metavar="P", type=port_argument, help="port (default: the first free one from 7860)")
    parser.add_argument("--api", action="store_true", help="offer the character service beside the page")
    add_service_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from demos.bundled import add_bundled_books
    from demos.server import serve

    api = service_settings(args) if args.api else None
    services = open_services(args)
    add_bundled_books(services.library)
    services.indexer.start()
    try:
        serve(services, host=args.host, port=args.port, api=api)
    except KeyboardInterrupt:
        say("novelscope: the page is closed")
    finally:
        services.close()
    return 0
