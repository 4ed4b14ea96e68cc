"""Streams over HTTP against the engine alone, many readers at once, and stops; and a summary by the bundled model.

The server runs in this process over one real model, whose pieces are counted where they are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from langchain_core.messages import HumanMessage

from benchmarks.library import ROOT, open_library
from core.chains.summary import Summariser, SummaryRequest
from core.llm.backend import Finish, Prompt, SamplingSettings, TokenBackend
from core.llm.chat_model import NovelChatModel
from core.llm.events import Status
from core.llm.models import load_chat_model
from core.llm.streams import as_async, model_events
from demos.bundled import add_bundled_books
from demos.server import create_app
from demos.settings import Settings
from demos.wiring import Services

__all__ = ["streaming", "summary"]

MODEL, BASE_MODEL = "builtin:smollm2-135m", "builtin:gemma3-270m"
MODELS = ROOT / "build" / "bench" / "models"
QUESTIONS = ("断秤客会在柜上写什么字？", "四十箱赈银运到昌陵府，每箱短了多少？", "论斤娘子杀人的规矩是什么？")
ROUNDS, READERS, TRIALS, TOKENS = 7, 20, 100, 128
STORY = "Tell a long story about a lighthouse, a storm and the keeper's daughter. " * 12


class _Counting:
    """A backend that counts what it makes."""

    def __init__(self, backend: TokenBackend) -> None:
        self._backend, self.pieces, self.opened, self.ended = backend, 0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        self.opened += 1
        try:
            with contextlib.closing(self._backend.stream(prompt, sampling)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    self.pieces += 1
                    yield piece
        finally:
            self.ended += 1


def streaming(corpus: Path) -> dict[str, Any]:
    """First event, first token and speed over HTTP against the engine's own; twenty readers; a hundred stops each."""
    backend = _Counting(load_chat_model(MODEL, cache_dir=MODELS).backend)
    model = NovelChatModel(backend=backend)
    with contextlib.ExitStack() as opened:
        home = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        services = opened.enter_context(contextlib.closing(Services(Settings(home=home, model=MODEL), model=model)))
        add_bundled_books(services.library)
        with _served(services) as address, httpx.Client(base_url=address, timeout=120) as client:
            _post(client, "ask", {"book": "定盘星", "question": QUESTIONS[0]})
            firsts = [_post(client, "ask", {"book": "定盘星", "question": one})[0] for one in QUESTIONS * 3]
            pairs = [(_bare(model, n), _post(client, "chat", _chat(n + ROUNDS))) for n in range(ROUNDS)]
            left_s = asyncio.run(_readers(address))
            stops = asyncio.run(_stops(model, backend, address))
    return {
        "model": MODEL,
        "first_event_s": round(statistics.median(firsts), 4),
        "worst_first_event_s": round(max(firsts), 4),
        "first_token_ratio": round(_ratio([(sse[1], bare[0]) for bare, sse in pairs]), 3),
        "speed_ratio": round(_ratio([(sse[2], bare[1]) for bare, sse in pairs]), 3),
        "readers": READERS,
        "readers_worst_to_mean_first_token": round(_worst(left_s, 0), 2),
        "readers_worst_to_mean_end": round(_worst(left_s, 1), 2),
        "trials": TRIALS,
        "stopped_within_a_token": stops,
    }


def summary(corpus: Path) -> dict[str, Any]:
    """The first ten chapters of 三国演义 by the bundled base model; the text goes to ``build/bench/summary.txt``."""
    library = open_library(corpus)
    model = load_chat_model(BASE_MODEL, cache_dir=MODELS)
    request = SummaryRequest(book_id=library.find("sanguoyanyi"), last=10)
    began = time.monotonic()
    lines, final, usage, kept = [], "", {}, 0
    for event in Summariser(library, model).stream(request):
        values = dict(event.values) if isinstance(event, Status) else {}
        if values.get("summary"):
            lines.append(f"{values['title']}\n{values['summary']}\n")
            kept += int(values["was_kept"])
        final = getattr(event, "text", final)
        usage = event.to_dict() if event.type == "usage" else usage
    elapsed_s = time.monotonic() - began
    (ROOT / "build" / "bench" / "summary.txt").write_text("\n".join([*lines, final]), encoding="utf-8")
    return {"model": BASE_MODEL, "chapters": len(lines), "kept": kept, "seconds": round(elapsed_s, 1), **usage}


def _chat(number: int) -> dict[str, Any]:
    # Each prompt begins otherwise, so that the engine has to read all of it.
    return {"messages": [{"role": "user", "content": f"{number * 7919}. {STORY}"}], "max_tokens": TOKENS, "seed": 1}


def _bare(model: NovelChatModel, number: int) -> tuple[float, float]:
    """Seconds to the first piece, and pieces a second after it, from the engine itself."""
    body = _chat(number)
    began = time.monotonic()
    times = [
        time.monotonic() - began
        for chunk in model.stream(body["messages"], max_tokens=TOKENS, temperature=0.7, top_p=0.9, seed=1)
        if chunk.text
    ]
    return times[0], (len(times) - 1) / (times[-1] - times[0])


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds to the first event and to the first token, and tokens a second after it, over HTTP."""
    began, first_s, times = time.monotonic(), 0.0, []
    with client.stream("POST", f"/stream/{path}", json=body) as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
                first_s = first_s or time.monotonic() - began
            elif line.startswith("data: ") and name == "token":
                times.append(time.monotonic() - began)
    speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    return first_s, times[0] if times else 0.0, speed


async def _readers(address: str) -> list[tuple[float, float]]:
    """Of readers that come at once: seconds to the first token and to the end."""

    async def read(client: httpx.AsyncClient, number: int) -> tuple[float, float]:
        began, first_s, name = time.monotonic(), 0.0, ""
        body = {"messages": [{"role": "user", "content": f"{number}: tell a story"}], "max_tokens": 32}
        async with client.stream("POST", "/stream/chat", json=body) as answer:
            async for line in answer.aiter_lines():
                name = line[7:] if line.startswith("event: ") else name
                if line.startswith("data: ") and name == "token":
                    first_s = first_s or time.monotonic() - began
        if name != "done":
            raise SystemExit(f"reader {number} ended with {name!r}")
        return first_s, time.monotonic() - began

    limits = httpx.Limits(max_connections=READERS)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
        return await asyncio.gather(*(read(client, number) for number in range(READERS)))


async def _stops(model: NovelChatModel, backend: _Counting, address: str) -> dict[str, int]:
    """Of a hundred trials each, those after which the model made one more piece at most."""
    body = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 400}

    def talk() -> Any:
        return model_events(model, [HumanMessage("Tell a long story.")], max_tokens=400)

    async def one_closed() -> int:
        async with contextlib.aclosing(as_async(talk())) as events:
            async for event in events:
                if event.type == "token":
                    break
            return backend.pieces

    async def one_cancelled() -> int:
        seen = asyncio.Event()

        async def read() -> None:
            async with contextlib.aclosing(as_async(talk())) as events:
                async for event in events:
                    if event.type == "token":
                        seen.set()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        made = backend.pieces
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return made

    async def one_socket() -> int:
        async with (
            httpx.AsyncClient(base_url=address, timeout=60) as client,
            client.stream("POST", "/stream/chat", json=body) as answer,
        ):
            async for line in answer.aiter_lines():
                if line == "event: token":
                    break
            return backend.pieces

    good = {}
    for name, trial in (("closed", one_closed), ("cancelled", one_cancelled), ("socket", one_socket)):
        good[name] = 0
        for _ in range(TRIALS):
            made = await trial()
            deadline = time.monotonic() + 10
            while backend.ended < backend.opened and time.monotonic() < deadline:
                await asyncio.sleep(0.002)
            good[name] += backend.ended == backend.opened and backend.pieces - made <= 1
    return good


@contextlib.contextmanager
def _served(services: Services) -> Iterator[str]:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(ours for ours, _ in pairs) / statistics.median(theirs for _, theirs in pairs)


def _worst(times: list[tuple[float, float]], place: int) -> float:
    values = [one[place] for one in times]
    return max(values) / statistics.mean(values)
