"""The character service under load: a hundred streams at once over a script, memory over many calls, twenty on a model.

The server is a process of its own; what it adds to a piece is how much later than its script it arrives, beside the
same for one reader alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.library import ROOT
from demos.api.service import open_keys

__all__ = ["api"]

PIECE_S, READERS, CALLS, APART_S = 0.1, 100, 300, 0.02
MANY = 10_000
TEXT = "你好呀！我是苏梦远。很高兴见到你！今天天气不错呢。"
SCRIPT = """
import sys
from pathlib import Path
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from demos.api.service import ApiSettings
from demos.server import serve
from demos.settings import Settings
from demos.wiring import Services

model = NovelChatModel(backend=ScriptedBackend(sys.argv[4], delay_s=float(sys.argv[3]), serves_many=True))
services = Services(Settings(home=Path(sys.argv[1]), model="scripted:x"), model=model)
serve(services, port=int(sys.argv[2]), api=ApiSettings(), has_page=False)
"""


def api(corpus: Path) -> dict[str, Any]:
    """Lateness of a piece with a hundred readers and with one, memory over ten thousand calls, twenty on the model."""
    with _served(["-c", SCRIPT], [str(PIECE_S), TEXT]) as server:
        alone = asyncio.run(server.many(20, 1, 0.0, PIECE_S))
        crowd = asyncio.run(server.many(CALLS, READERS, APART_S, PIECE_S))
    with _served(["-c", SCRIPT], ["0", "好"]) as server:
        asyncio.run(server.many(500, 20, 0.0, 0.0))
        before = server.memory_mb()
        asyncio.run(server.many(MANY, 20, 0.0, 0.0))
        after = server.memory_mb()
    with _served(["-m", "demos", "api", "--model", "builtin:gemma3-270m"], None) as server:
        began = time.monotonic()
        told = asyncio.run(server.many(20, 20, 0.0, 0.0, most_tokens=16))
        twenty_s = time.monotonic() - began
    return {
        "readers": READERS,
        "late_ms_p99": crowd["p99"], "late_ms_p50": crowd["p50"], "alone_late_ms_p99": alone["p99"],
        "whole": crowd["whole"], "of": CALLS,
        "ratio": round(crowd["p99"] / max(alone["p99"], 0.1), 2),
        "memory_mb": [before, after], "calls": MANY,
        "model_finished": told["whole"], "model_s": round(twenty_s, 1),
    }  # fmt: skip


class _Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int, key: str) -> None:
        self._process, self._port, self._key = process, port, key

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return round(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, 1)  # type: ignore[index]

    async def many(
        self, calls: int, at_once: int, apart_s: float, piece_s: float, *, most_tokens: int = 64
    ) -> dict[str, Any]:
        """Milliseconds by which pieces come later after one another than they are made, and calls that were whole."""
        turns = asyncio.Semaphore(at_once)
        late: list[float] = []
        whole = 0

        async def one(number: int) -> None:
            nonlocal whole
            await asyncio.sleep(number * apart_s)
            async with turns:
                times, data = await self._read(most_tokens)
            late.extend(after - before - piece_s for before, after in pairwise(times[:-2]))
            whole += data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") and b'"error"' not in data

        await asyncio.gather(*(one(number) for number in range(calls)))
        ranked = sorted(late) or [0.0]
        return {
            "p50": round(ranked[len(ranked) // 2] * 1000, 1),
            "p99": round(ranked[len(ranked) * 99 // 100] * 1000, 1),
            "whole": whole,
        }

    async def _read(self, most_tokens: int) -> tuple[list[float], bytes]:
        body = json.dumps(
            {"model": "charglm-3", "stream": True, "max_tokens": most_tokens,
             "messages": [{"role": "user", "content": "你好"}]}
        ).encode()  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {self._key}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        times: list[float] = []
        data = b""
        while piece := await reader.read(65536):
            times += [time.perf_counter()] * piece.count(b"data: ")
            data += piece
        writer.close()
        return times, data


@contextlib.contextmanager
def _served(program: list[str], arguments: list[str] | None) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        with open_keys(Path(folder)) as keys:
            key = keys.create("bench").key
        named = ["--home", folder, "--port", str(port)] if arguments is None else [folder, str(port), *arguments]
        process = subprocess.Popen([sys.executable, *program, *named], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
            yield _Server(process, port, key)
        finally:
            process.terminate()
            process.wait(timeout=30)
