"""The web server: the page, the character service, or both, on loopback unless asked otherwise.

``create_app`` makes everything and starts nothing; ``serve`` runs it until Ctrl-C and closes what streams.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from importlib import resources
from types import FrameType
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import FileResponse

from core.errors import NovelscopeError, SettingsError
from demos.loopback import is_loopback
from demos.settings import quiet_analytics
from demos.wiring import Services

if TYPE_CHECKING:
    from demos.api.service import ApiService, ApiSettings

__all__ = ["MAX_UPLOAD_BYTES", "create_app", "serve"]

DEFAULT_PORT, PORTS_TRIED = 7860, 20
MAX_UPLOAD_BYTES = 200 * 2**20
# Streams that are still open get so long to end after Ctrl-C.
SHUTDOWN_S = 3
# Longer than clients keep connections in their pools: one that is closed while it is taken again fails a call.
KEEP_ALIVE_S = 75

_log = logging.getLogger("novelscope.web")


def create_app(services: Services, service: ApiService | None = None) -> FastAPI:
    """The application: the page at ``/``, the streams under ``/stream``, ``/docs`` about them, and ``/healthz``.

    Args:
        service: the character service, to be offered beside the page.
    """
    quiet_analytics()
    import gradio as gr

    from demos.api.app import api_application
    from demos.api.refusals import BoundedBodies
    from demos.api.routes import stream_routes
    from demos.api.streams import Streams
    from demos.app import build_blocks, theme

    app = api_application(service)
    app.include_router(stream_routes(services, Streams()))
    app.add_middleware(BoundedBodies, path="/stream/")

    @app.get("/map/plotly.js", include_in_schema=False)
    def plotly_js() -> FileResponse:
        # Plotly's own package carries it, so that the map works without any other host.
        script = resources.files("plotly").joinpath("package_data").joinpath("plotly.min.js")
        return FileResponse(str(script), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    page, text = build_blocks(services)
    page.queue(max_size=64, default_concurrency_limit=8)
    files = resources.files("demos").joinpath("static")
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        favicon_path=str(files.joinpath("favicon.svg")),
        show_error=False,
        max_file_size=MAX_UPLOAD_BYTES,
        ssr_mode=False,
        i18n=text,
        theme=theme(),
        css=files.joinpath("style.css").read_text(encoding="utf-8"),
    )


def serve(
    services: Services,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    api: ApiSettings | None = None,
    has_page: bool = True,
) -> None:
    """Serve until Ctrl-C.

    Args:
        port: None takes the first free one from 7860.
        api: of the character service, to be offered too; None leaves it out.
        has_page: False serves the character service alone.

    Raises:
        SettingsError: the port is taken, the address is not one of this machine, or it can be reached from others and
            no key was ever made.
        LibraryBusy: another process serves this library's character service.
    """
    import uvicorn

    _log_to_stderr(as_json=not has_page)
    with _listening(host, port) as listener, _opened(services, api, host) as service:
        from demos.api.app import api_application  # a port that is taken is found before much is loaded

        app = create_app(services, service) if has_page else api_application(service)
        warming = threading.Thread(target=_warm_up, args=(services, has_page), name="warm-up", daemon=True)
        warming.start()
        atexit.register(_leave, warming)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        shown = f"[{host}]" if ":" in host else host
        print(f"novelscope: http://{shown}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
        server = uvicorn.Server(config)
        leave = server.handle_exit

        def handle_exit(sig: int, frame: FrameType | None) -> None:
            services.is_closing.set()
            if service is not None:
                service.begin_closing()
            # Pages that are still open are cut off now; uvicorn would report each of them with a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            leave(sig, frame)

        if threading.current_thread() is threading.main_thread():
            # Once it has ended, uvicorn raises the signal again, which would skip everything that is to be closed.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server.handle_exit = handle_exit  # type: ignore[method-assign]  # the hook that uvicorn offers
        server.run(sockets=[listener])


def _listening(host: str, port: int | None) -> contextlib.closing[socket.socket]:
    """A socket that listens already: a port that was found free cannot be lost again."""
    tried = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED), 0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    trouble: OSError | None = None
    for candidate in tried:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except OSError as wrong:
            listener.close()
            trouble = wrong
            continue
        return contextlib.closing(listener)
    raise SettingsError(
        f"cannot listen on {host}, port {tried[0]} ({trouble.strerror if trouble else ''}); name another with --port"
    ) from trouble


@contextlib.contextmanager
def _opened(services: Services, api: ApiSettings | None, host: str) -> Iterator[ApiService | None]:
    """The character service, if it is wanted and may be reached from this address."""
    if api is None:
        yield None
        return
    from demos.api.service import ApiService

    with ApiService.open(services, api) as service:
        services.offers_api = True
        if not is_loopback(host) and not service.keys.has_any():
            raise SettingsError(
                f"{host} can be reached from other machines and no key was ever made; make one with: novelscope key "
                "create NAME, or leave --host out"
            )
        yield service


def _log_to_stderr(*, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    if as_json:
        from demos.api.operations import JsonLines

        handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("novelscope").setLevel(logging.INFO)


def _leave(warming: threading.Thread) -> None:
    """End at once while a model is still being read: its library would abort the process under a running thread."""
    if warming.is_alive():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _warm_up(services: Services, has_page: bool) -> None:
    """Load what the first question needs, while the reader looks around."""
    try:
        services.chat_model()
        if has_page:
            _ = services.library.embedder
    except NovelscopeError as wrong:
        _log.warning("%s", wrong)
