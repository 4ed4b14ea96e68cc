"""Summaries that are stopped, closed, cancelled, killed or broken: nothing goes on, and the next run goes on there."""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import aclosing, closing

import pytest

from core.chains.kept_texts import FILE
from core.chains.summary import SummaryRequest
from core.data.reading import read_novel
from core.llm.events import TERMINAL, Done, Failed, Stopped
from core.llm.streams import as_async
from core.retrieval.library import Library
from tests.chains.scribe import Scribe, final, library_of, ready, request_for, summariser
from tests.support import ROOT


@pytest.fixture
def library(tmp_path) -> Library:
    return library_of(tmp_path)


def numbers_of(backend: Scribe) -> list[int]:
    """The chapters that were asked about, by number."""
    return [int(re.findall(r"\d+", title)[0]) for title in backend.chapters_read]


def test_a_stop_from_another_thread_ends_it_and_what_was_whole_is_kept(library):
    backend, stop = Scribe(), threading.Event()
    events = []
    for event in summariser(library, backend).stream(request_for(library), halt=stop):
        events.append(event)
        if len(ready(events)) == 2 and not stop.is_set():
            threading.Thread(target=stop.set).start()
            stop.wait()
    assert isinstance(events[-1], Stopped) and sum(isinstance(event, TERMINAL) for event in events) == 1
    assert list(summariser(library).kept_summaries(request_for(library))) == [1, 2]
    assert backend.opened == backend.ended


def test_closing_stops_the_model_within_a_piece(library):
    backend = Scribe()
    with closing(summariser(library, backend).stream(request_for(library))) as events:
        while next(events).type != "token":
            pass
        assert (backend.opened, backend.ended) == (1, 0)
    assert (backend.opened, backend.ended) == (1, 1)


@pytest.mark.parametrize("parallel", [1, 4])
def test_an_error_in_chapter_3_keeps_what_was_whole_and_a_rerun_goes_on_there(library, parallel):
    broken = Scribe(fails_at="丙谷”", delay_s=0.002 if parallel > 1 else 0)
    events = list(summariser(library, broken, parallel=parallel).stream(request_for(library)))
    assert isinstance(events[-1], Failed) and events[-1].message == "the power failed"
    assert sum(isinstance(event, TERMINAL) for event in events) == 1 and broken.opened == broken.ended
    kept = set(summariser(library).kept_summaries(request_for(library)))
    assert set(ready(events)) <= kept and 3 not in kept
    assert parallel > 1 or kept == {1, 2}
    mended = Scribe()
    list(summariser(library, mended).stream(request_for(library)))
    assert numbers_of(mended) == [number for number in range(1, 9) if number not in kept]


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_closed_at_random_and_run_again_it_ends_as_if_never_closed_and_asks_for_nothing_twice(tmp_path, seed, parallel):
    chance = random.Random(seed)
    whole = library_of(tmp_path / "whole")
    wanted = list(summariser(whole).stream(request_for(whole)))
    library = library_of(tmp_path / "closed")
    for _ in range(200):
        backend = Scribe()
        made = summariser(library, backend, parallel=parallel)
        kept = set(made.kept_summaries(request_for(library)))
        events = []
        with closing(made.stream(request_for(library))) as stream:
            for event, _ in zip(stream, range(chance.randint(1, 80)), strict=False):
                events.append(event)
        assert not kept & set(numbers_of(backend)) and backend.opened == backend.ended
        assert set(ready(events)) <= set(made.kept_summaries(request_for(library)))
        if isinstance(events[-1], Done):
            break
    assert final(events) == final(wanted)
    assert made.kept_summaries(request_for(library)) == ready(wanted)


@pytest.mark.parametrize("parallel", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_no_thread_or_call_is_left_of_200_closed_summaries(library, parallel):
    chance, before = random.Random(1), threading.active_count()
    for number in range(200):
        backend = Scribe(name=f"scribe {number}")
        with closing(summariser(library, backend, parallel=parallel).stream(request_for(library))) as events:
            for _, _ in zip(events, range(chance.randint(0, 110)), strict=False):
                pass
        # The leaving is over only when everything has ended, so nothing needs to be waited for.
        assert backend.opened == backend.ended and threading.active_count() == before


@pytest.mark.parametrize("parallel", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_no_thread_task_or_call_is_left_of_200_cancelled_summaries(library, parallel):
    chance, backends, seen = random.Random(2), [], Counter()

    async def read(backend, enough, until):
        stream = summariser(library, backend, parallel=parallel).stream(request_for(library))
        async with aclosing(as_async(stream)) as events:
            async for event in events:
                seen[event.type] += 1
                enough -= 1
                if enough == 0:
                    until.set()

    async def cancel(number):
        backends.append(Scribe(name=f"scribe {number}", delay_s=0.005))
        until = asyncio.Event()
        # Some before the first event; the others in mid-call, wherever the machine's speed has brought them.
        task = asyncio.create_task(read(backends[-1], chance.randint(1, 30), until))
        if number % 4:
            await until.wait()
        await asyncio.sleep(chance.random() * 0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def many():
        for first in range(0, 200, 20):
            await asyncio.gather(*(cancel(number) for number in range(first, first + 20)))
        return asyncio.all_tasks() - {asyncio.current_task()}

    before = threading.active_count()
    assert not asyncio.run(many())
    for thread in threading.enumerate():
        if thread.name.startswith("novelscope"):
            thread.join(5)
    assert threading.active_count() <= before
    assert len(backends) == 200 and all(backend.opened == backend.ended for backend in backends)
    assert seen["token"] and sum(backend.opened for backend in backends) > 100, "most were cancelled in mid-call"


WORKER = """
import json, os, sys
from pathlib import Path
from core.chains.summary import SummaryRequest
from core.retrieval.library import Library, LibrarySettings
from tests.chains.scribe import Scribe, final, summariser

home, book_id, parallel, delay_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
log = os.open(home / "calls.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Logged(Scribe):
    def stream(self, prompt, sampling):
        # Only its beginning, for a kill can cut a long write in two.
        os.write(log, (json.dumps(prompt[0].content[:60]) + "\\n").encode())
        os.fsync(log)
        yield from super().stream(prompt, sampling)

made = summariser(Library(LibrarySettings(home=home)), Logged(delay_s=delay_s), parallel=parallel)
text = final(list(made.stream(SummaryRequest(book_id=book_id))))
(home / "final.txt").write_text(text, encoding="utf-8")
"""
NUM_KILLS = 10


def lines_of(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("parallel", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_ten_times_the_summary_of_120_chapters_is_the_same_and_no_kept_chapter_is_asked_for(
    shared, tmp_path, parallel
):
    novel = read_novel(shared / "corpus" / "sanguoyanyi.txt")
    whole, library = (library_of(tmp_path / name, novel) for name in ("whole", "killed"))
    request, home = SummaryRequest(book_id=novel.id), tmp_path / "killed"
    wanted = list(summariser(whole).stream(request))
    log, kept_file = home / "calls.jsonl", home / "books" / novel.id / FILE
    chance = random.Random(parallel)

    def run(kill_after_calls: int | None) -> None:
        command = [sys.executable, "-c", WORKER, str(home), novel.id, str(parallel), "0.001"]
        worker = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:
            if kill_after_calls is not None:
                started = lines_of(log)
                while lines_of(log) < started + kill_after_calls and worker.poll() is None:
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.03)
                worker.kill()
            assert worker.wait(120) == (0 if kill_after_calls is None else -9)
        finally:
            worker.kill()
            worker.wait()

    chapters_read = 0
    for kill_after_calls in [*(chance.randint(1, 12) for _ in range(NUM_KILLS)), None]:
        started, kept = lines_of(log), summariser(library).kept_summaries(request)
        run(kill_after_calls)
        asked = [json.loads(line) for line in log.read_bytes().splitlines()[started:]]
        read = {found[1] for text in asked if (found := re.match(r"概括《.+?》“(.+?)”", text))}
        chapters_read += len(read)
        assert asked and not read & {chapter.title for chapter in novel.chapters if chapter.number in kept}
    assert chapters_read >= 120
    # Apart from what was in flight at a kill, every call has left one text.
    assert len(log.read_bytes().splitlines()) <= lines_of(kept_file) + NUM_KILLS * parallel
    assert (home / "final.txt").read_text(encoding="utf-8") == final(wanted)
    found = list(summariser(library).stream(request))
    assert final(found) == final(wanted) and ready(found) == ready(wanted) and len(ready(found)) == 120
