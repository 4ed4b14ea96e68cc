"""The web server: the page on FastAPI, on loopback unless asked otherwise.

``create_app`` makes everything and starts nothing; ``serve`` runs it until Ctrl-C and closes what streams.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from importlib import resources
from types import FrameType

from fastapi import FastAPI
from fastapi.responses import FileResponse

from core import __version__
from core.errors import NovelscopeError, SettingsError
from demos.settings import quiet_analytics
from demos.wiring import Services

__all__ = ["MAX_UPLOAD_BYTES", "create_app", "serve"]

DEFAULT_PORT, PORTS_TRIED = 7860, 20
MAX_UPLOAD_BYTES = 200 * 2**20
# Streams that are still open get so long to end after Ctrl-C.
SHUTDOWN_S = 2

_log = logging.getLogger("novelscope.web")


def create_app(services: Services) -> FastAPI:
    """The application: the page at ``/``, the streams under ``/stream``, ``/docs`` about them, and ``/healthz``."""
    quiet_analytics()
    import gradio as gr
    from fastapi_offline import FastAPIOffline

    from demos.api.refusals import BoundedBodies, add_refusals
    from demos.api.routes import stream_routes
    from demos.api.streams import Streams
    from demos.app import build_blocks, theme

    # FastAPI's own page for the interface takes its scripts from another host.
    app = FastAPIOffline(title="novelscope", version=__version__, redoc_url=None, favicon_url="/favicon.ico")
    app.include_router(stream_routes(services, Streams()))
    app.add_middleware(BoundedBodies, path="/stream/")
    add_refusals(app)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

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


def serve(services: Services, *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve until Ctrl-C.

    Args:
        port: None takes the first free one from 7860.

    Raises:
        SettingsError: the port is taken, or the address is not one of this machine.
    """
    import uvicorn

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("novelscope").setLevel(logging.INFO)
    with _listening(host, port) as listener:
        app = create_app(services)
        threading.Thread(target=_warm_up, args=(services,), name="warm-up", daemon=True).start()
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_S)
        shown = f"[{host}]" if ":" in host else host
        print(f"novelscope: http://{shown}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
        server = uvicorn.Server(config)
        leave = server.handle_exit

        def handle_exit(sig: int, frame: FrameType | None) -> None:
            services.is_closing.set()
            # Pages that are still open are cut off now; uvicorn would report each of them with a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            leave(sig, frame)

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


def _warm_up(services: Services) -> None:
    """Load what the first question needs, while the reader looks around."""
    try:
        services.chat_model()
        _ = services.library.embedder
    except NovelscopeError as wrong:
        _log.warning("%s", wrong)
