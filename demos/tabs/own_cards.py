"""The list of characters that can be talked with, and the cards that a reader writes, imports or throws away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr

from core.errors import NovelscopeError
from core.persona.card import Card, Line
from core.persona.card_files import MOST_BYTES, read_card
from demos import rendering
from demos.characters import BOOK, SHELF
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["OwnCards", "build_own_cards", "drop_card", "import_card", "list_people", "write_card"]

ALIASES_SHOWN = 3
Strings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OwnCards:
    """The components of the fold in which cards are written."""

    upload: gr.UploadButton
    fields: tuple[gr.Textbox, ...]
    write: gr.Button
    drop: gr.Button

    def connect(
        self,
        services: Services,
        character: gr.Dropdown,
        other: gr.Dropdown,
        told: gr.HTML,
        book: gr.Dropdown,
        bookmark: gr.Slider,
    ) -> None:
        """Let the buttons act on the lists of characters."""
        listed, here = [character, other, told], [book, bookmark]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.upload.upload(MethodType(import_card, services), [self.upload, *here], listed, **quiet)
        self.write.click(MethodType(write_card, services), [*self.fields, *here], listed, **quiet)
        self.drop.click(MethodType(drop_card, services), [character, *here], listed, **quiet)


def build_own_cards(text: gr.I18n) -> OwnCards:
    """Put the fold on the page."""
    with gr.Accordion(text("character_own"), open=False, elem_classes="ns-fold", elem_id="ns-character-own"):
        upload = gr.UploadButton(
            text("character_import"),  # type: ignore[arg-type]  # taken all the same
            file_types=[".json", ".png"],
            elem_id="ns-card-file",
        )
        name = gr.Textbox(label=text("character_name"), max_length=80, elem_id="ns-own-name")
        about = gr.Textbox(label=text("character_about"), lines=3, max_length=8000, elem_id="ns-own-about")
        manner = gr.Textbox(label=text("character_manner"), lines=2, max_length=4000)
        sayings = gr.Textbox(label=text("character_sayings"), lines=2, max_length=4000)
        with gr.Row(elem_classes="ns-buttons"):
            write = gr.Button(text("character_write"), elem_id="ns-own-write")
            drop = gr.Button(text("character_drop"), variant="stop", elem_id="ns-own-drop")
    return OwnCards(upload, (name, about, manner, sayings), write, drop)


def list_people(
    services: Services, book_id: str | None, until: float, chosen: str | None, request: gr.Request
) -> tuple[Any, Any, str]:
    """(characters, the same for the second of two, notice): who can be talked with."""
    choices, note = _choices(services, book_id, int(until), strings_for(request))
    values = [value for _, value in choices]
    picked = chosen if chosen in values else (values[0] if values else None)
    second = next((value for value in values if value != picked), None)
    return gr.Dropdown(choices=choices, value=picked), gr.Dropdown(choices=choices, value=second), note


def import_card(
    services: Services, path: str, book_id: str | None, until: float, request: gr.Request
) -> tuple[Any, Any, str]:
    """(characters, the same again, notice): put a card from a file on the shelf."""
    try:
        with Path(path).open("rb") as file:
            card = read_card(file.read(MOST_BYTES + 1))
        chosen = SHELF + services.characters.shelf.put(card)
    except (NovelscopeError, OSError) as wrong:
        return gr.skip(), gr.skip(), rendering.notice(str(wrong), "error")
    characters, others, told = list_people(services, book_id, until, chosen, request)
    try:
        services.characters.card(chosen, book_id, int(until))
    except NovelscopeError as hidden:
        told = rendering.notice(str(hidden))
    return characters, others, told


def write_card(
    services: Services,
    name: str,
    about: str,
    manner: str,
    sayings: str,
    book_id: str | None,
    until: float,
    request: gr.Request,
) -> tuple[Any, Any, str]:
    """(characters, the same again, notice): put a card that the reader wrote on the shelf."""
    try:
        card = Card(name=name.strip(), about=_lines(about), manner=_lines(manner), sayings=_lines(sayings))
        chosen = SHELF + services.characters.shelf.put(card)
    except NovelscopeError as wrong:
        return gr.skip(), gr.skip(), rendering.notice(str(wrong), "error")
    return list_people(services, book_id, until, chosen, request)


def drop_card(
    services: Services, character: str | None, book_id: str | None, until: float, request: gr.Request
) -> tuple[Any, Any, str]:
    """(characters, the same again, notice): take the picked card off the shelf; one of the book cannot go."""
    try:
        if character and character.startswith(SHELF):
            services.characters.shelf.remove(character.removeprefix(SHELF))
    except NovelscopeError as wrong:
        return gr.skip(), gr.skip(), rendering.notice(str(wrong), "error")
    return list_people(services, book_id, until, None, request)


def _choices(
    services: Services, book_id: str | None, until: int, strings: Strings
) -> tuple[list[tuple[str, str]], str]:
    choices, note = [], ""
    try:
        if book_id:
            for person in services.characters.people(book_id, until):
                also = "、".join(person.aliases[:ALIASES_SHOWN])
                label = f"{person.name}（{also}）" if also else person.name
                choices.append((label, BOOK + person.name))
            note = "" if choices else rendering.notice(strings["character_none"])
        on_shelf, reasons = services.characters.on_shelf(book_id, until)
        choices += [(f"{one.card.name} ✎", SHELF + one.id) for one in on_shelf]
        if reasons:
            note += rendering.notice("; ".join(reasons[:3]), "error")
    except NovelscopeError as wrong:
        note = rendering.notice(str(wrong), "error")
    return choices, note


def _lines(text: str) -> tuple[Line, ...]:
    return tuple(Line(line.strip()) for line in text.splitlines() if line.strip())
