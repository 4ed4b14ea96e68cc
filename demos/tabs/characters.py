"""The tab where a reader talks with the people of a book: pick one, see the card and where the book says so, talk.

The people are found up to the bookmark of the first tab, and nothing past it is told. What is said is remembered for
this browser alone, and can be seen, changed and forgotten below the conversation.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from types import MethodType
from typing import Any

import gradio as gr

from core.errors import NovelscopeError
from core.llm.events import Done, Evidence, Failed, Status, Stopped, Token
from core.llm.models import BUILTIN_MODELS
from core.persona.card import Card
from core.persona.card_files import spoken_text
from core.persona.chat import CharacterChat, Conversation
from core.persona.duet import duet
from core.persona.shelf import character_id
from demos import rendering
from demos.answering import watched
from demos.character_pages import card_page, talk_page
from demos.tabs.chat import browser_key
from demos.tabs.leaf import OPEN_ON_CLICK, build_leaf, open_at
from demos.tabs.own_cards import build_own_cards, list_people
from demos.translations import strings_for
from demos.wiring import Services

__all__ = [
    "build_characters_tab",
    "converse",
    "keep_reader",
    "let_talk",
    "save_memory",
    "show_character",
]

REDRAW_EVERY_S = 0.05

_log = logging.getLogger("novelscope.web")
Strings = Mapping[str, str]


def keep_reader(services: Services) -> gr.BrowserState:
    """Where a browser keeps whose memory is meant; it must stand outside the tabs, for a hidden tab reads nothing."""
    return gr.BrowserState("", storage_key="novelscope-reader", secret=browser_key(services))


def build_characters_tab(
    services: Services,
    text: gr.I18n,
    page: gr.Blocks,
    tab: gr.Tab,
    reader: gr.BrowserState,
    book: gr.Dropdown,
    bookmark: gr.Slider,
    model: gr.Dropdown,
) -> None:
    """Put the tab on the page."""
    with gr.Row(elem_classes="ns-top"):
        character = gr.Dropdown(
            label=text("character"), choices=[], interactive=True, allow_custom_value=True, scale=4,
            elem_id="ns-character",
        )  # fmt: skip
        me = gr.Textbox(label=text("character_me"), value="读者", max_length=40, scale=2, elem_id="ns-character-me")
    told = gr.HTML(elem_id="ns-character-told")
    with gr.Row(elem_classes="ns-main"):
        with gr.Column(scale=6, min_width=320, elem_classes="ns-left"):
            talk = gr.HTML(elem_id="ns-character-talk")
            message = gr.Textbox(
                show_label=False, placeholder=text("character_hint"), max_lines=4, container=False,
                elem_id="ns-character-message",
            )  # fmt: skip
            with gr.Row(elem_classes="ns-buttons"):
                send = gr.Button(text("chat_send"), variant="primary", elem_id="ns-character-send")
                stop = gr.Button(text("stop"), variant="stop", elem_id="ns-character-stop")
            with gr.Accordion(text("memory"), open=False, elem_classes="ns-fold", elem_id="ns-memory"):
                summary = gr.Textbox(label=text("memory_summary"), lines=2, elem_id="ns-memory-summary")
                facts = gr.Dataframe(
                    headers=["#", "·"], datatype=["number", "str"], type="array", interactive=True, column_count=2,
                    label=text("memory_facts"), elem_id="ns-memory-facts", static_columns=[0],
                )  # fmt: skip
                with gr.Row(elem_classes="ns-buttons"):
                    save = gr.Button(text("memory_save"), elem_id="ns-memory-save")
                    forget = gr.Button(text("memory_forget"), variant="stop", elem_id="ns-memory-forget")
            with gr.Accordion(text("duet"), open=False, elem_classes="ns-fold", elem_id="ns-duet"):
                with gr.Row():
                    other = gr.Dropdown(
                        label=text("duet_other"), choices=[], allow_custom_value=True, elem_id="ns-duet-other"
                    )
                    topic = gr.Textbox(label=text("duet_topic"), max_length=400, elem_id="ns-duet-topic")
                    rounds = gr.Slider(1, 10, value=3, step=1, label=text("duet_rounds"))
                with gr.Row(elem_classes="ns-buttons"):
                    begin = gr.Button(text("duet_begin"), elem_id="ns-duet-begin")
                    end = gr.Button(text("stop"), variant="stop", elem_id="ns-duet-stop")
                stage = gr.HTML(elem_id="ns-duet-stage")
            own = build_own_cards(text)
        with gr.Column(scale=5, min_width=320, elem_classes="ns-right"):
            scenes = gr.HTML(elem_id="ns-scenes", js_on_load=OPEN_ON_CLICK)
            card = gr.HTML(elem_id="ns-card", js_on_load=OPEN_ON_CLICK)
    leaf, place = build_leaf(services, book, bookmark)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    who = [reader, book, bookmark, character, me]
    seen = [card, scenes, talk, summary, facts, told]
    page.load(lambda known: known or secrets.token_hex(16), reader, reader, **quiet)
    tab.select(MethodType(list_people, services), [book, bookmark, character], [character, other, told], **quiet)
    character.change(MethodType(show_character, services), [*who, model], seen, **quiet)
    talking = gr.on(
        [send.click, message.submit], MethodType(converse, services), [*who, model, message],
        [message, talk, scenes, summary, facts], concurrency_id="llm", **quiet,
    )  # fmt: skip
    duetting = begin.click(
        MethodType(let_talk, services), [*who, model, other, topic, rounds], stage, concurrency_id="llm", **quiet
    )
    shown: dict[str, Any] = {"fn": MethodType(show_character, services), "inputs": [*who, model], "outputs": seen}
    cancel: dict[str, Any] = {"fn": None, "queue": False, "api_visibility": "private"}
    stop.click(**cancel, cancels=[talking]).then(**shown, **quiet)
    end.click(**cancel, cancels=[duetting])
    save.click(MethodType(save_memory, services), [*who, summary, facts], [summary, facts, told], **quiet)
    forget.click(MethodType(forget_all, services), who, None, **quiet).then(**shown, **quiet)
    own.connect(services, character, other, told, book, bookmark)
    for clickable in (card, scenes):
        clickable.click(MethodType(open_at, services), [book, bookmark], [leaf, place], **quiet)
    # What was told under another bookmark, or of another book, must not stand here.
    for changed in (book, bookmark):
        changed.change(**cancel, cancels=[talking, duetting]).then(
            lambda: (gr.Dropdown(choices=[], value=None), "", "", "", "", "", "", {}), None,
            [character, card, scenes, talk, stage, told, leaf, place], queue=False, **quiet,
        )  # fmt: skip


def show_character(
    services: Services,
    reader: str,
    book_id: str | None,
    until: float,
    character: str | None,
    me: str,
    model: str,
    request: gr.Request,
) -> Iterator[tuple[Any, ...]]:
    """Yield (card, scenes, conversation, summary, facts, notice) for the character that was picked."""
    strings = strings_for(request)
    if not character:
        yield "", "", talk_page([], "", "", "", strings), "", [], ""
        return
    try:
        if services.characters.needs_drawing(character) and _may_shorten(model):
            yield gr.skip(), "", gr.skip(), gr.skip(), gr.skip(), rendering.notice(strings["character_drawing"], "busy")
        card = _card(services, character, book_id, until, model)
        shown = card_page(card, strings, reader_name=_name(me))
        yield shown, "", *_remembered(services, reader, card, until, me, strings), ""
    except NovelscopeError as wrong:
        yield "", "", "", "", [], rendering.notice(str(wrong), "error")


def converse(
    services: Services,
    reader: str,
    book_id: str | None,
    until: float,
    character: str | None,
    me: str,
    model: str,
    message: str,
    request: gr.Request,
) -> Iterator[tuple[Any, ...]]:
    """Yield (message box, conversation, scenes, summary, facts) as the character answers."""
    strings = strings_for(request)
    skip = gr.skip()
    if not message.strip() or not character:
        yield message, skip, skip, skip, skip
        return
    try:
        card = _card(services, character, book_id, until, model)
        memory, whose = services.characters.memory, (reader, _id(card), int(until))
        earlier = memory.summary(*whose)
        before = [(_speaker(turn.role, card, me), turn.content) for turn in memory.turns(*whose)]
        asked = [*before, (_name(me), message.strip())]
        talk = Conversation(reader=reader, card=card, reader_name=_name(me), until_chapter=int(until))
        chat = CharacterChat(services.library, lambda: services.chat_model(model), memory)
        said, status, drawn, scenes = "", strings["status_searching"], 0.0, skip
        yield "", talk_page(asked, "", status, "", strings, summary=earlier), skip, skip, skip
        with closing(watched(chat.stream(talk, message), services)) as events:
            for event in events:
                if isinstance(event, Token):
                    said, status = said + event.text, ""
                elif isinstance(event, Evidence):
                    passages = [{**one.to_dict(), "excerpt": (one.span.start, one.span.end)} for one in event.passages]
                    scenes = rendering.evidence_cards(passages, [], (1, 1), {**strings, "coverage": strings["scenes"]})
                elif isinstance(event, Status) and event.key in ("loading", "searching"):
                    status = strings[f"status_{event.key}"]
                elif isinstance(event, (Done, Stopped)):
                    said = event.text
                elif isinstance(event, Failed):
                    status = strings["answer_failed"].format(message=event.message)
                if time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    turns = [*asked, (card.name, said)] if said else asked
                    shown = talk_page(turns, card.name if said else "", status, "", strings, summary=earlier)
                    yield "", shown, scenes, skip, skip
        turns = [*asked, (card.name, said)] if said else asked
        _, summary, facts = _remembered(services, reader, card, until, me, strings)
        yield "", talk_page(turns, "", status, "", strings, summary=earlier), scenes, summary, facts
    except NovelscopeError as wrong:
        note = rendering.notice(strings["answer_failed"].format(message=wrong), "error")
        yield message, talk_page([], "", "", note, strings), skip, skip, skip
    except Exception:
        _log.exception("a character could not answer")
        note = rendering.notice(strings["unexpected"], "error")
        yield message, talk_page([], "", "", note, strings), skip, skip, skip


def let_talk(
    services: Services,
    reader: str,
    book_id: str | None,
    until: float,
    character: str | None,
    me: str,
    model: str,
    other: str | None,
    topic: str,
    rounds: float,
    request: gr.Request,
) -> Iterator[str]:
    """Yield the conversation of two characters as it is spoken."""
    strings = strings_for(request)
    if not character or not other:
        yield rendering.notice(strings["duet_pick"])
        return
    turns: list[tuple[str, str]] = []
    yield talk_page([], "", strings["status_loading"], "", strings)
    try:
        cards = [_card(services, name, book_id, until, model) for name in (character, other)]
        talking = duet(
            services.library, services.chat_model(model), cards[0], cards[1], topic=topic.strip(),
            until_chapter=int(until), rounds=int(rounds),
        )  # fmt: skip
        drawn = 0.0
        with closing(talking), services.indexer.give_way():
            for said in talking:
                if services.is_closing.is_set():
                    return
                if said.is_whole:
                    turns.append((said.speaker, said.text))
                    yield talk_page(turns, "", "", "", strings)
                elif time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    yield talk_page([*turns, (said.speaker, said.text)], said.speaker, "", "", strings)
    except NovelscopeError as wrong:
        yield talk_page(turns, "", "", rendering.notice(str(wrong), "error"), strings)
    except Exception:
        _log.exception("two characters could not talk")
        yield talk_page(turns, "", "", rendering.notice(strings["unexpected"], "error"), strings)


def save_memory(
    services: Services,
    reader: str,
    book_id: str | None,
    until: float,
    character: str | None,
    me: str,
    summary: str,
    facts: list[list[Any]],
    request: gr.Request,
) -> tuple[str, list[list[Any]], str]:
    """(summary, facts, notice): what the reader changed is what is remembered; an emptied fact is forgotten."""
    strings = strings_for(request)
    if not character:
        return summary, facts, ""
    try:
        card = _card(services, character, book_id, until)
        memory, whose = services.characters.memory, (reader, _id(card))
        if summary.strip() != memory.summary(*whose, int(until)):
            memory.set_summary(*whose, summary.strip(), int(until))
        wanted = {int(number): str(text or "").strip() for number, text in facts if number}
        for fact in memory.facts(*whose, int(until)):
            text = wanted.get(fact.id, "")
            if not text:
                memory.delete_fact(*whose, fact.id)
            elif text != fact.text:
                memory.edit_fact(*whose, fact.id, text, int(until))
        for number, text in facts:
            if not number and str(text or "").strip():
                memory.add_fact(*whose, str(text).strip(), int(until))
        _, summary, facts = _remembered(services, reader, card, until, me, strings)
        return summary, facts, rendering.notice(strings["memory_saved"])
    except NovelscopeError as wrong:
        return summary, facts, rendering.notice(str(wrong), "error")


def forget_all(
    services: Services, reader: str, book_id: str | None, until: float, character: str | None, me: str
) -> None:
    """Let the character forget this reader."""
    if character:
        services.characters.memory.forget(reader, _id(_card(services, character, book_id, until)))


def _card(services: Services, character: str, book_id: str | None, until: float, model: str | None = None) -> Card:
    shortening = services.chat_model(model) if model and _may_shorten(model) else None
    return services.characters.card(character, book_id, int(until), model=shortening)


def _may_shorten(model: str) -> bool:
    """Whether the model can be asked to shorten the book's sentences; a base model cannot."""
    bundled = BUILTIN_MODELS.get(model.removeprefix("builtin:"))
    return bundled is None or bundled.is_chat


def _remembered(
    services: Services, reader: str, card: Card, until: float, me: str, strings: Strings
) -> tuple[str, str, list[list[Any]]]:
    memory, whose = services.characters.memory, (reader, _id(card), int(until))
    said = [(_speaker(turn.role, card, me), turn.content) for turn in memory.turns(*whose)]
    if not said and card.greeting:
        said = [(card.name, spoken_text(card.greeting, card.name, _name(me)))]
    earlier, facts = memory.summary(*whose), [[fact.id, fact.text] for fact in memory.facts(*whose)]
    return talk_page(said, "", "", "", strings, summary=earlier), earlier, facts


def _id(card: Card) -> str:
    return character_id(card.book_id, card.name)


def _speaker(role: str, card: Card, me: str) -> str:
    return card.name if role == "assistant" else _name(me)


def _name(me: str) -> str:
    return me.strip() or "读者"
