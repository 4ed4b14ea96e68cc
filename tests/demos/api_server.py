"""The character service on a real server in this process, over a scripted model."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jwt
import uvicorn

from core.llm.backends.scripted import ScriptedBackend
from demos.api.app import api_application
from demos.api.service import ApiService, ApiSettings
from tests.demos.web_server import ScriptedServices

__all__ = [
    "ANSWER",
    "ASKED",
    "LONG",
    "META",
    "V3",
    "V4",
    "Api",
    "api_served",
    "events_of",
    "signed",
    "v3",
    "v4",
    "wait_for",
]

META = {"bot_name": "苏梦远", "bot_info": "当红女歌手。", "user_name": "陆星辰", "user_info": "知名导演。"}
ANSWER = "你好呀！\n我是苏梦远。 Nice to meet you."
LONG = "".join(chr(0x4E00 + 7 * number) for number in range(400))
"""An answer that repeats nothing, for one that runs in circles would be ended."""
ASKED = [{"role": "user", "content": "你好"}]
V3 = {"prompt": ASKED, "meta": META}
V4 = {"model": "charglm-3", "messages": ASKED}


class Api:
    """A running service: its address, two keys, and the backend that speaks."""

    def __init__(self, service: ApiService, backend: ScriptedBackend, url: str) -> None:
        self.service, self.backend, self.url = service, backend, url
        self.key, self.other = service.keys.create("one").key, service.keys.create("two").key

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def v3(self, way: str, model: str = "charglm-3") -> str:
        return f"{self.url}/api/paas/v3/model-api/{model}/{way}"

    @property
    def v4(self) -> str:
        return f"{self.url}/api/paas/v4/chat/completions"


@contextlib.contextmanager
def api_served(home: Path, backend: ScriptedBackend, settings: ApiSettings | None = None) -> Iterator[Api]:
    """The service while the block runs."""
    services = ScriptedServices(home, backend)
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener,
        ApiService.open(services, settings) as service,
    ):
        config = uvicorn.Config(api_application(service), log_level="warning", timeout_graceful_shutdown=3)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert time.monotonic() < deadline, "the server did not start in 30 s"
                time.sleep(0.02)
            yield Api(service, backend, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            services.is_closing.set()
            service.begin_closing()
            server.should_exit = True
            thread.join(timeout=20)


def signed(key: str, *, algorithm: str = "HS256", headers: dict | None = None, **claims: object) -> str:
    """A token as clients make it: times in milliseconds."""
    key_id, secret = key.split(".")
    now = round(time.time() * 1000)
    payload = {"api_key": key_id, "exp": now + 60_000, "timestamp": now, **claims}
    payload = {name: value for name, value in payload.items() if value is not ...}
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers or {"alg": algorithm, "sign_type": "SIGN"})


def events_of(text: str) -> list[dict[str, object]]:
    """The JSON chunks of a stream of the newer interface."""
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


def v3(api: Api, way: str = "invoke", body: object = V3, **headers: str) -> httpx.Response:
    """One call of the older interface."""
    return httpx.post(api.v3(way), json=body, headers={**api.bearer, **headers}, timeout=30)


def v4(api: Api, body: object = V4, **headers: str) -> httpx.Response:
    """One chat completion."""
    return httpx.post(api.v4, json=body, headers={**api.bearer, **headers}, timeout=30)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    """Wait until it holds; ``what`` is said if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
