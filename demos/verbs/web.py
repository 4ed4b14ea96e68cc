"""``novelscope web``: the page, on the library, with the bundled novel where there is no other."""

from __future__ import annotations

import argparse

from demos.verbs.common import open_services, say

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default: this machine)")
    parser.add_argument("--port", metavar="P", type=_port, help="port (default: the first free one from 7860)")


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from demos.bundled import add_bundled_books
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


def _port(given: str) -> int:
    if not given.isdigit() or not 0 <= int(given) < 65536:
        raise argparse.ArgumentTypeError(f"{given!r} is not a port from 0 to 65535")
    return int(given)
