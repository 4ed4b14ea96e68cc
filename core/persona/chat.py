"""Talk with a character of a book: scenes it took part in are found, memory is looked up, and the model speaks as it.

    message -> scenes with the character (evidence) -> facts remembered -> persona prompt -> tokens -> memory

Nothing past the bookmark reaches the prompt: not by the scenes, not by the card, not by what was said before. Nothing
here knows how tokens are made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from core.data.dialogues import Turn
from core.data.text import Language
from core.errors import SettingsError
from core.llm.backend import Finish, SamplingSettings
from core.llm.chat_model import NovelChatModel
from core.llm.events import Done, Event, Evidence, Passage, Status, Token, UsageReport
from core.llm.speaking import spoken
from core.llm.streams import guarded
from core.persona.card import Card, Line
from core.persona.card_files import spoken_text
from core.persona.fence import require_bookmark
from core.persona.memory import Memory
from core.persona.prompting import Persona, persona_prompt, repetition_penalty
from core.persona.remembering import facts_told, folding
from core.persona.shelf import character_id
from core.retrieval.library import Library

__all__ = [
    "CharacterChat",
    "ChatSettings",
    "Conversation",
    "language_of",
    "persona_of",
    "sampling_of",
    "scenes_read",
    "scenes_with",
]

FOUND = 24
HAN = re.compile("[\u3400-\u9fff]")
BASE_TEMPERATURE = 0.5
NOTE = {"zh": "{user}说过：{text}", "en": "{user} has said: {text}"}
EARLIER = {"zh": "先前谈过：{text}", "en": "Earlier they spoke of this: {text}"}
STOPPED = {"zh": "……", "en": "…"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """How a character talks.

    Attributes:
        scenes: of the book that are put before the model, at most; a base model gets one.
        scene_chars: of each scene, at most; a base model gets a third.
        facts: recalled at most.
        most_turns, kept_turns: beyond the first, all but the second go into the summary.
        temperature, top_p: how freely words are chosen; a base model keeps closer to the likeliest.
        max_tokens: of an answer.
    """

    scenes: int = 3
    scene_chars: int = 300
    facts: int = 4
    most_turns: int = 16
    kept_turns: int = 8
    temperature: float = 0.8
    top_p: float = 0.8
    max_tokens: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.kept_turns < self.most_turns:
            raise SettingsError(f"kept_turns is {self.kept_turns}, wanted 1 to {self.most_turns - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Who talks with whom.

    Attributes:
        reader: whose memory it is: a name that the edge makes, not one that a person types.
        reader_name, reader_info: what the character calls the reader, and knows of them from the start.
        until_chapter: number of the last chapter that may be spoken of; None for the whole book.
    """

    reader: str
    card: Card
    reader_name: str = "读者"
    reader_info: str = ""
    until_chapter: int | None = None

    def __post_init__(self) -> None:
        require_bookmark(self.card, self.until_chapter)


def language_of(card: Card, message: str = "") -> Language:
    """The language to speak in: Chinese as soon as there is a Han character."""
    return "zh" if HAN.search(card.name + message) else "en"


class CharacterChat:
    """Speaks as the characters of a library with one model.

    Args:
        model: the model, or what loads it; it is loaded after the scenes were found.
    """

    def __init__(
        self,
        library: Library,
        model: NovelChatModel | Callable[[], NovelChatModel],
        memory: Memory,
        settings: ChatSettings | None = None,
    ) -> None:
        self._library, self._model, self._memory = library, model, memory
        self._settings = settings or ChatSettings()

    def stream(self, talk: Conversation, message: str) -> Generator[Event, None, None]:
        """The character's answer as events, the last of them terminal; closing this stops the model.

        What was said is remembered when it has ended by itself, or, marked, was stopped after some words; an answer
        that failed is not.
        """
        return guarded(self._events(talk, message))

    def _events(self, talk: Conversation, message: str) -> Generator[Event, None, None]:
        message = message.strip()
        if not message:
            raise SettingsError("nothing was said; type a few words")
        yield Status("searching")
        scenes = scenes_with(self._library, talk.card, message, self._settings.scenes, talk.until_chapter)
        if scenes:
            yield Evidence(scenes, 0, 0)
        character = character_id(talk.card.book_id, talk.card.name)
        facts = self._recalled(talk, character, message)
        if facts:
            yield Status("remembering", (("facts", len(facts)),))
        earlier = self._memory.summary(talk.reader, character, talk.until_chapter)
        recent = self._memory.turns(talk.reader, character, talk.until_chapter)
        yield Status("loading")
        model = self._model if isinstance(self._model, NovelChatModel) else self._model()
        language = language_of(talk.card, message)
        notes = [NOTE[language].format(user=talk.reader_name, text=text) for text in facts]
        if earlier:
            notes.insert(0, EARLIER[language].format(text=earlier))
        turns = [*recent, Turn("user", message)]
        said: list[str] = []
        try:
            reason = yield from self._answer(model, talk, turns, scenes, notes, said)
        except (GeneratorExit, KeyboardInterrupt):
            # Nothing but the writing: whoever stops does not wait for a model.
            if text := "".join(said).strip():
                self._remember(talk, character, message, text + STOPPED[language])
            raise
        if text := "".join(said).strip():
            self._remember(talk, character, message, text)
            yield from folding(
                self._memory,
                (talk.reader, character, talk.until_chapter),
                limit=self._settings.most_turns,
                keep=self._settings.kept_turns,
                names=(talk.reader_name, talk.card.name),
                language=language,
                model=model,
            )
        yield Done(text, found=True, finish_reason=reason)

    def _answer(
        self,
        model: NovelChatModel,
        talk: Conversation,
        turns: Sequence[Turn],
        scenes: Sequence[Passage],
        notes: Sequence[str],
        said: list[str],
    ) -> Generator[Event, None, str]:
        """The character's words, put into ``said`` as they come; returns why they ended."""
        settings, began, first_s = self._settings, time.monotonic(), 0.0
        shown = scenes_read(scenes, talk.card, settings, model)
        persona = persona_of(talk.card, talk.reader_name, talk.reader_info)
        prompt = persona_prompt(
            persona, turns, model=model, answer_tokens=settings.max_tokens, scenes=shown, notes=notes
        )
        sampling = sampling_of(settings, model, prompt.stop)
        yield Status(
            "reading", (("passages", len(shown)), ("of", len(scenes)), ("turns_left_out", prompt.turns_left_out))
        )
        with closing(spoken(model.backend, prompt.prompt, sampling)) as pieces:
            for piece in pieces:
                if isinstance(piece, Finish):
                    elapsed_s = time.monotonic() - began
                    yield UsageReport(piece.input_tokens, piece.output_tokens, first_s, elapsed_s)
                    return piece.reason
                if not piece:
                    yield Status("thinking")
                    continue
                first_s = first_s or time.monotonic() - began
                said.append(piece)
                yield Token(piece)
        return "stop"

    def _remember(self, talk: Conversation, character: str, message: str, answer: str) -> None:
        whose = (talk.reader, character)
        for turn in (Turn("user", message), Turn("assistant", answer)):
            self._memory.add_turn(*whose, turn, talk.until_chapter)
        for fact in facts_told(message, "zh" if HAN.search(message) else "en"):
            self._memory.add_fact(*whose, fact, talk.until_chapter)

    def _recalled(self, talk: Conversation, character: str, message: str) -> list[str]:
        """The facts about the reader that lie nearest to the message."""
        if not self._memory.facts(talk.reader, character, talk.until_chapter):
            return []
        embedder = self._library.embedder
        found = self._memory.recall(
            talk.reader,
            character,
            embedder.embed_query(message),
            talk.until_chapter,
            embed=lambda texts: embedder.embed_passages(list(texts)),
            top_k=self._settings.facts,
            embedder=embedder.name,
        )
        return [recalled.fact.text for recalled in found]


def scenes_with(
    library: Library, card: Card, message: str, most: int, until_chapter: int | None
) -> tuple[Passage, ...]:
    """Passages of the book in which the character takes part, nearest to what is said first."""
    if card.book_id is None:
        return ()
    names = _names(card)
    asked = message if names.search(message) else f"{card.name} {message}"
    found = library.search(card.book_id, asked, top_k=FOUND, until_chapter=until_chapter)
    there = [one for one in found.passages if names.search(one.text)]
    return tuple(
        Passage(number, one.chapter, one.chapter_title, one.span, one.text, one.score)
        for number, one in enumerate(there[:most], 1)
    )


def scenes_read(scenes: Sequence[Passage], card: Card, settings: ChatSettings, model: NovelChatModel) -> list[str]:
    """As much of the scenes as the model can take in: a base model loses the thread of more than a little."""
    most, chars = (settings.scenes, settings.scene_chars) if model.is_chat else (1, settings.scene_chars // 3)
    return [_around(scene.text, _names(card), chars) for scene in scenes[:most]]


def sampling_of(settings: ChatSettings, model: NovelChatModel, stop: tuple[str, ...]) -> SamplingSettings:
    """How the model chooses its words; a base model keeps closer to the likeliest."""
    return SamplingSettings(
        max_new_tokens=settings.max_tokens,
        temperature=settings.temperature if model.is_chat else min(settings.temperature, BASE_TEMPERATURE),
        top_p=settings.top_p,
        repetition_penalty=repetition_penalty(model),
        stop=stop,
    )


def persona_of(card: Card, reader_name: str = "读者", reader_info: str = "") -> Persona:
    """A card as the one who is to be played."""

    def told(text: str) -> str:
        return spoken_text(text, char=card.name, user=reader_name)

    also = ""
    if card.aliases:
        also = f"（又叫{'、'.join(card.aliases[:4])}）" if HAN.search(card.name) else ""
    lines: list[Line] = [*card.about, *card.knows, *card.wants, *card.manner]
    relations = [f"{one.person}：{one.line.text}" for one in card.relations[:3]]
    info = "\n".join([card.name + also, *(told(line.text) for line in lines), *map(told, relations)])
    if card.scenario:
        info += "\n" + told(card.scenario)
    sayings = tuple(told(line.text) for line in card.sayings)
    return Persona(bot_name=card.name, bot_info=info, user_name=reader_name, user_info=reader_info, sayings=sayings)


def _names(card: Card) -> re.Pattern[str]:
    """What finds the character in a text: not Ann in Anna, though 黛玉 in 林黛玉."""
    names = [name for name in card.names if name.strip()]
    return re.compile(
        "|".join(re.escape(name) if HAN.search(name) else rf"(?<!\w){re.escape(name)}(?!\w)" for name in names)
    )


def _around(text: str, names: re.Pattern[str], chars: int) -> str:
    """So many characters of the scene about the first of the names in it."""
    if len(text) <= chars:
        return text
    found = names.search(text)
    at = found.start() if found else 0
    start = max(0, min(at - chars // 3, len(text) - chars))
    return text[start : start + chars]
