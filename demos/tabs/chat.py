"""The tab for a plain conversation with a model: pick it, set the sampling, talk, stop, retry, edit.

The conversation is kept in the browser, under a key that this library made, so it survives a reload and a restart of
the server; the server keeps nothing.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from types import MethodType
from typing import Any

import gradio as gr
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage

from core.errors import NovelscopeError
from core.llm.chat_model import NovelChatModel
from core.llm.models import BUILTIN_MODELS
from demos import rendering
from demos.answering import Loading, watched_text
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["browser_key", "build_chat_tab", "keep_chat", "stream_reply"]

REDRAW_EVERY_S = 0.05
# A browser keeps a few megabytes for a site.
KEPT_MESSAGES, KEPT_CHARS = 200, 400_000

_log = logging.getLogger("novelscope.web")
Message = dict[str, Any]


def keep_chat(services: Services) -> gr.BrowserState:
    """Where a browser keeps the conversation; it must stand outside the tabs, for a hidden tab reads nothing."""
    return gr.BrowserState([], storage_key="novelscope-chat", secret=browser_key(services))


def build_chat_tab(services: Services, text: gr.I18n, page: gr.Blocks, kept: gr.BrowserState) -> None:
    """Put the tab on the page."""
    note = gr.HTML(elem_id="ns-chat-note")
    history = gr.Chatbot(
        label=text("chat_history"), show_label=False, placeholder=text("chat_empty"),  # type: ignore[arg-type]  # taken all the same
        height="58vh", elem_id="ns-chat",
        editable="user", buttons=["copy"], feedback_options=None, allow_tags=False, layout="panel",
    )  # fmt: skip
    meter = gr.HTML(elem_id="ns-chat-meter")
    message = gr.Textbox(
        show_label=False, placeholder=text("chat_hint"), max_lines=6, container=False, elem_id="ns-message"
    )
    with gr.Row(elem_classes="ns-buttons"):
        send = gr.Button(text("chat_send"), variant="primary", elem_id="ns-send")
        stop = gr.Button(text("stop"), variant="stop", elem_id="ns-chat-stop")
        clear = gr.Button(text("chat_clear"), elem_id="ns-chat-clear")
    with gr.Accordion(text("chat_options"), open=False, elem_classes="ns-fold"):
        model = gr.Dropdown(services.model_choices(), value=services.settings.model, label=text("model"))
        system = gr.Textbox(label=text("chat_system"), lines=2)
        with gr.Row():
            temperature = gr.Slider(0, 2, value=0.7, step=0.05, label=text("chat_temperature"))
            top_p = gr.Slider(0.05, 1, value=0.9, step=0.05, label=text("chat_top_p"))
            max_tokens = gr.Slider(16, 2048, value=256, step=16, label=text("chat_max_tokens"))
            seed = gr.Number(value=None, precision=0, label=text("chat_seed"))

    sampling = [model, system, temperature, top_p, max_tokens, seed]
    talking: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_id": "llm"}
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    reply = MethodType(stream_reply, services)
    # One event for both, so that a second Enter waits for the reply that is being written.
    shown = [message, history, meter]
    sent = gr.on([send.click, message.submit], reply, [message, history, *sampling], shown, **talking)
    again = history.retry(MethodType(retry_reply, services), [history, *sampling], shown, **talking)
    edited = history.edit(MethodType(edit_message, services), [history, *sampling], shown, **talking)
    running: list[Any] = [sent, again, edited]
    # Marked after the stream was cancelled: a piece that was under way would write over the mark.
    stopped = stop.click(None, cancels=running, queue=False, api_visibility="private")
    stopped.then(mark_stopped, history, history, queue=False, **quiet).then(_kept, history, kept, **quiet)
    clear.click(lambda: ([], []), None, [history, kept], cancels=running, queue=False, **quiet)
    history.clear(lambda: [], None, kept, **quiet)
    for event in running:
        event.then(_kept, history, kept, **quiet)
    page.load(lambda messages: messages, kept, history, **quiet)
    gr.on([model.change, page.load], base_note, model, note, **quiet)


def stream_reply(
    services: Services,
    message: str,
    history: list[Message],
    model: str,
    system: str | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int | None,
    request: gr.Request,
) -> Iterator[tuple[str, list[Message], str]]:
    """Yield (message box, history so far, what the model is and how fast) as the reply is written."""
    strings = strings_for(request)
    history = [_plain(entry) for entry in history or []]
    if not message.strip():
        yield "", history, ""
        return
    asked = [*history, {"role": "user", "content": message.strip()}]
    said, facts = "", rendering.notice(strings["status_loading"], "busy")
    yield "", [*asked, _reply(strings["status_loading"])], facts
    try:
        loading = Loading(services, model)
        for share in loading.shares():
            busy = rendering.notice(strings["status_loading"], "busy", share)
            yield "", [*asked, _reply(strings["status_loading"])], busy
        chat = loading.model()
        meter = _Meter(chat, strings)
        stream = chat.stream(
            _messages(system, asked), temperature=temperature, top_p=top_p, max_tokens=int(max_tokens),
            seed=None if seed is None else int(seed),
        )  # fmt: skip
        facts, drawn = meter.draw(), 0.0
        with closing(watched_text(_texts(stream, meter), services)) as pieces:
            for piece in pieces:
                said += piece
                if time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    yield "", [*asked, _reply(said or strings["status_waiting"])], facts
        facts = meter.draw()
    except NovelscopeError as wrong:
        said, facts = f"{said}\n\n{strings['answer_failed'].format(message=wrong)}".strip(), ""
    except Exception:
        _log.exception("a reply broke off")
        said, facts = f"{said}\n\n{strings['unexpected']}".strip(), ""
    yield "", [*asked, _reply(said)], facts


class _Meter:
    """What the model is, and how fast it wrote the last reply."""

    def __init__(self, chat: NovelChatModel, strings: Mapping[str, str]) -> None:
        self._chat, self._strings = chat, strings
        self._first_at = self._last_at = 0.0
        self._tokens = 0

    def hear(self, chunk: AIMessageChunk) -> None:
        self._last_at = time.monotonic()
        if chunk.text and not self._first_at:
            self._first_at = self._last_at
        if chunk.usage_metadata:
            self._tokens = chunk.usage_metadata["output_tokens"]

    def draw(self) -> str:
        parts = [self._chat.backend.name]
        if facts := self._chat.backend.facts:
            parts.append(self._strings["chat_bits"].format(bits=facts.bits))
            parts.append(self._strings["chat_memory"].format(megabytes=f"{facts.memory_bytes / 1e6:,.0f}"))
        seconds = self._last_at - self._first_at
        if self._tokens > 1 and seconds > 0:
            # The first token came when the prompt had been read, so the pace is that of those after it.
            parts.append(self._strings["chat_speed"].format(speed=f"{(self._tokens - 1) / seconds:.1f}"))
        return rendering.facts(parts)


def retry_reply(
    services: Services,
    history: list[Message],
    model: str,
    system: str | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int | None,
    retry: gr.RetryData,
    request: gr.Request,
) -> Iterator[tuple[str, list[Message], str]]:
    """Ask the question before the chosen reply once more."""
    index = retry.index if isinstance(retry.index, int) else retry.index[0]
    asked = next((at for at in range(index, -1, -1) if history[at]["role"] == "user"), None)
    if asked is not None:
        sampling = (model, system, temperature, top_p, max_tokens, seed)
        yield from stream_reply(services, _plain(history[asked])["content"], history[:asked], *sampling, request)


def edit_message(
    services: Services,
    history: list[Message],
    model: str,
    system: str | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int | None,
    edit: gr.EditData,
    request: gr.Request,
) -> Iterator[tuple[str, list[Message], str]]:
    """Answer the edited message; what came after it is dropped."""
    index = edit.index if isinstance(edit.index, int) else edit.index[0]
    sampling = (model, system, temperature, top_p, max_tokens, seed)
    yield from stream_reply(services, str(edit.value), history[:index], *sampling, request)


def base_note(model: str, request: gr.Request) -> str:
    """A warning where the picked model was never trained to talk; empty for any other."""
    name = model.removeprefix("builtin:")
    if name not in BUILTIN_MODELS or BUILTIN_MODELS[name].is_chat:
        return ""
    return rendering.notice(strings_for(request)["chat_base_note"].format(name=BUILTIN_MODELS[name].label))


def mark_stopped(history: list[Message], request: gr.Request) -> list[Message]:
    """Keep what was written of the last reply, marked as stopped."""
    history = [_plain(entry) for entry in history or []]
    if history and history[-1]["role"] == "assistant":
        mark = strings_for(request)["answer_stopped"]
        if not history[-1]["content"].endswith(mark):
            history[-1]["content"] = f"{history[-1]['content']} {mark}"
    return history


def _kept(history: list[Message]) -> list[Message]:
    """What the browser keeps: the newest messages, within its room."""
    kept: list[Message] = []
    room = KEPT_CHARS
    for entry in reversed([_plain(entry) for entry in history or []][-KEPT_MESSAGES:]):
        room -= len(entry["content"])
        if room < 0:
            break
        kept.insert(0, entry)
    return kept


def _reply(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _texts(stream: Iterator[Any], meter: _Meter) -> Generator[str, None, None]:
    # An empty piece is a sign of life from the model, at which a stop can take effect.
    with closing(stream):  # type: ignore[type-var]  # declared as an iterator, made as a generator
        for chunk in stream:
            meter.hear(chunk)
            yield chunk.text


def _plain(entry: Message) -> Message:
    """Role and text of a message; Gradio hands content back in parts."""
    content = entry["content"]
    if not isinstance(content, str):
        content = "".join(part if isinstance(part, str) else part.get("text", "") for part in content)
    return {"role": entry["role"], "content": content}


def _messages(system: str | None, history: list[Message]) -> list[BaseMessage]:
    kinds = {"user": HumanMessage, "assistant": AIMessage}
    instruction = (system or "").strip()
    head: list[BaseMessage] = [SystemMessage(instruction)] if instruction else []
    return [*head, *(kinds[entry["role"]](entry["content"]) for entry in history)]


def browser_key(services: Services) -> str:
    """The key under which browsers keep conversations; made once, so that a restart can read them."""
    path = services.settings.home / "browser.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii").strip()
