"""``novelscope worker``: the process that ``add`` leaves behind. Makes all missing vectors and ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading

from demos.verbs.common import open_services, say

__all__ = ["add_arguments", "run"]

NICENESS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace) -> int:
    """Make vectors until none is missing; SIGTERM ends it after the batch under way."""
    from core.errors import LibraryBusy
    from demos.indexer import run_worker

    should_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: should_stop.set())
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: not on Windows
        os.nice(NICENESS)
    try:
        is_done = run_worker(open_services(args).library, should_stop.is_set)
    except LibraryBusy as busy:
        say(f"worker {os.getpid()}: nothing to do, the vector index is held by {busy.holder}")
        return 0
    say(f"worker {os.getpid()}: " + ("every vector is made" if is_done else "stopped; the rest waits"))
    return 0
