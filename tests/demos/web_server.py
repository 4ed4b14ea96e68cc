"""The real page on a real server in this process, over a scripted model and an embedder without weights."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.retrieval.library import Library, LibrarySettings
from demos.characters import Characters
from demos.indexer import Indexer
from demos.server import create_app
from demos.settings import Settings
from demos.wiring import Services
from tests.support import HashedEmbedder

__all__ = ["ScriptedServices", "served"]


class ScriptedServices(Services):
    """Services whose every model is one scripted backend."""

    def __init__(self, home: Path, backend: ScriptedBackend) -> None:
        super().__init__(Settings(home=home, model="scripted:test"))
        self.library = Library(LibrarySettings(home=home), embedder=HashedEmbedder())
        self.indexer = Indexer(self.library)
        self.characters = Characters(self.library, home)
        self.backend = backend

    def chat_model(
        self,
        spec: str | None = None,
        *,
        bits: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> NovelChatModel:
        return NovelChatModel(backend=self.backend)


@contextlib.contextmanager
def served(services: Services, *, port: int = 0) -> Iterator[str]:
    """The address of the page while the block runs."""
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        services.indexer.start()
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                assert time.monotonic() < deadline, "the server did not start in 30 s"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            services.close()
