"""The tab for programs: how to start the character service, keys for it, and an example for every client.

Keys are made and revoked only by a browser on this very machine. Nothing here answers a call.
"""

from __future__ import annotations

import time
from html import escape
from importlib import resources
from types import MethodType
from typing import Any

import gradio as gr

from core.errors import NovelscopeError
from demos import rendering
from demos.api.service import open_keys
from demos.map_window import is_own_machine
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["EXAMPLES", "build_api_tab", "example", "make_key", "revoke_key", "show_service"]

EXAMPLES: dict[str, tuple[str, Any]] = {
    "zhipuai 1.0.7": ("zhipuai_v3.py.txt", "python"),
    "zhipuai 2.x / zai-sdk": ("zhipuai_v4.py.txt", "python"),
    "openai": ("openai_chat.py.txt", "python"),
    "langchain-openai": ("langchain_chat.py.txt", "python"),
    "curl": ("curl.sh.txt", "shell"),
    "JavaScript": ("chat.mjs.txt", "javascript"),
}
DEFAULT_URL, DEFAULT_KEY, MODEL = "http://127.0.0.1:7860", "ID.SECRET", "charglm-4"


def build_api_tab(services: Services, text: gr.I18n, tab: gr.Tab) -> None:
    """Put the tab on the page."""
    told = gr.HTML(elem_id="ns-api-told")
    with gr.Row(elem_classes="ns-main"):
        with gr.Column(scale=5, min_width=320):
            with gr.Row(elem_classes="ns-key-row"):
                name = gr.Textbox(label=text("api_name"), max_length=100, scale=3, elem_id="ns-key-name")
                make = gr.Button(text("api_make"), variant="primary", scale=1, elem_id="ns-key-make")
            key = gr.Textbox(
                label=text("api_key"), interactive=False, visible=False, buttons=["copy"], elem_id="ns-key"
            )
            keys = gr.HTML(elem_id="ns-keys")
            with gr.Row(elem_classes="ns-key-row"):
                which = gr.Dropdown(label=text("api_revoke_which"), choices=[], scale=3, elem_id="ns-key-which")
                revoke = gr.Button(text("api_revoke"), variant="stop", scale=1, elem_id="ns-key-revoke")
        with gr.Column(scale=7, min_width=320):
            client = gr.Dropdown(list(EXAMPLES), value="openai", label=text("api_client"), elem_id="ns-api-client")
            code = gr.Code(
                example("openai", DEFAULT_URL, DEFAULT_KEY), language="python", interactive=False, show_label=False,
                elem_id="ns-api-code",
            )  # fmt: skip
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    shown: dict[str, Any] = {"fn": MethodType(show_service, services), "inputs": [], "outputs": [told, keys, which]}
    coded: dict[str, Any] = {"fn": MethodType(show_example, services), "inputs": [client, key], "outputs": code}
    tab.select(**shown, **quiet).then(**coded, **quiet)
    client.change(**coded, **quiet)
    making = make.click(MethodType(make_key, services), name, [key, told], **quiet)
    making.success(MethodType(list_keys, services), None, [keys, which], **quiet).then(**coded, **quiet)
    revoke.click(MethodType(revoke_key, services), which, told, **quiet).success(
        MethodType(list_keys, services), None, [keys, which], **quiet
    )


def show_service(services: Services, request: gr.Request) -> tuple[str, str, Any]:
    """(notice, keys, ids): whether this server offers the service, and what starts it."""
    strings = strings_for(request)
    line = strings["api_here"].format(url=_address(request)) if services.offers_api else strings["api_start"]
    keys, which = list_keys(services, request)
    return rendering.notice(line), keys, which


def list_keys(services: Services, request: gr.Request) -> tuple[str, Any]:
    """(table of keys, ids that can be revoked); for this machine's own browser alone."""
    strings = strings_for(request)
    if not is_own_machine(request):
        return rendering.notice(strings["api_elsewhere"]), gr.Dropdown(choices=[])
    with open_keys(services.settings.home) as keys:
        listed = keys.list()
    rows = "".join(
        f"<tr><td>{escape(info.name)}</td><td>{escape(info.id)}</td>"
        f"<td>{time.strftime('%Y-%m-%d', time.localtime(info.created_at))}</td>"
        f"<td>{escape(strings['api_revoked'] if info.revoked_at else strings['api_works'])}</td></tr>"
        for info in listed
    )
    table = (
        f'<table class="ns-keys">{rows}</table>'
        if rows
        else f'<p class="ns-muted">{escape(strings["api_no_keys"])}</p>'
    )
    return table, gr.Dropdown(
        choices=[(f"{info.name} · {info.id[:8]}", info.id) for info in listed if not info.revoked_at], value=None
    )


def make_key(services: Services, name: str, request: gr.Request) -> tuple[Any, str]:
    """(the key, notice): a new key, shown this once."""
    strings = strings_for(request)
    if not is_own_machine(request):
        return gr.Textbox(visible=False), rendering.notice(strings["api_elsewhere"], "error")
    try:
        with open_keys(services.settings.home) as keys:
            made = keys.create(name.strip() or "web")
    except NovelscopeError as wrong:
        return gr.Textbox(visible=False), rendering.notice(str(wrong), "error")
    return gr.Textbox(value=made.key, visible=True), rendering.notice(strings["api_once"])


def revoke_key(services: Services, key_id: str | None, request: gr.Request) -> str:
    """The notice after a key was revoked."""
    strings = strings_for(request)
    if not is_own_machine(request):
        return rendering.notice(strings["api_elsewhere"], "error")
    if not key_id:
        return ""
    try:
        with open_keys(services.settings.home) as keys:
            info = keys.revoke(key_id)
    except NovelscopeError as wrong:
        return rendering.notice(str(wrong), "error")
    return rendering.notice(strings["api_gone"].format(name=info.name))


def example(client: str, url: str, key: str) -> str:
    """The client's program, ready to run."""
    file, _ = EXAMPLES[client]
    text = resources.files("demos").joinpath("examples").joinpath(file).read_text(encoding="utf-8")
    return text.replace("__BASE_URL__", url).replace("__API_KEY__", key).replace("__MODEL__", MODEL)


def show_example(services: Services, client: str, key: str | None, request: gr.Request) -> Any:
    """The program for a client, with this server's address and the key that was just made."""
    url = _address(request) if services.offers_api else DEFAULT_URL
    return gr.Code(value=example(client, url, key or DEFAULT_KEY), language=EXAMPLES[client][1])


def _address(request: gr.Request) -> str:
    """What the browser calls this server."""
    return str(getattr(request.request, "base_url", DEFAULT_URL)).rstrip("/")
