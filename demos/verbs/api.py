"""``novelscope api``: the character service alone, for clients of CharacterGLM and of OpenAI."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from demos.verbs.common import (
    MODEL_HELP,
    add_machine_options,
    at_least_one,
    open_services,
    port_argument,
    say,
    text_argument,
)

if TYPE_CHECKING:
    from demos.api.service import ApiSettings

__all__ = ["add_arguments", "add_service_options", "run", "service_settings"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default: this machine)")
    parser.add_argument("--port", metavar="P", type=port_argument, help="port (default: the first free one from 7860)")
    parser.add_argument("--model", metavar="SPEC", type=text_argument, help=f"who answers: {MODEL_HELP}")
    add_machine_options(parser)
    add_service_options(parser)


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """How much the service takes on."""
    group = parser.add_argument_group("character service")
    group.add_argument("--queue", type=at_least_one, metavar="N", help="calls of one key that may wait (default: 256)")
    group.add_argument(
        "--open-tasks", type=at_least_one, metavar="N", help="tasks of one key not done (default: 10000)"
    )
    group.add_argument("--rate", metavar="TEXT", help='calls of one key, as "60/minute" (default: as many as come)')
    group.add_argument("--keep-days", type=float, metavar="N", help="for which results are kept (default: 7)")
    group.add_argument("--log-prompts", action="store_true", help="write what is asked and answered into the log")


def service_settings(args: argparse.Namespace) -> ApiSettings:
    """The settings that the flags name."""
    from demos.api.service import ApiSettings

    flags = {"queue": args.queue, "open_tasks": args.open_tasks, "rate": args.rate, "kept_days": args.keep_days}
    given = {name: value for name, value in flags.items() if value is not None}
    return ApiSettings(**given, log_prompts=args.log_prompts)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from demos.server import serve

    settings = service_settings(args)
    services = open_services(args)
    try:
        serve(services, host=args.host, port=args.port, api=settings, has_page=False)
    except KeyboardInterrupt:
        say("novelscope: the service is closed")
    finally:
        services.close()
    return 0
