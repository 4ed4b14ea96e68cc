"""Two characters talk with each other while the reader watches.

Each speaks in its turn, hears the other as the one it talks with, and remembers the scenes of its own. Nothing past the
bookmark reaches either, and nothing of it is kept. Nothing here knows how tokens are made.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from core.data.dialogues import Turn
from core.errors import SettingsError
from core.llm.chat_model import NovelChatModel
from core.llm.speaking import spoken
from core.persona.card import Card
from core.persona.card_files import spoken_text
from core.persona.chat import (
    ChatSettings,
    language_of,
    persona_of,
    sampling_of,
    scenes_read,
    scenes_with,
)
from core.persona.fence import require_bookmark
from core.persona.prompting import persona_prompt
from core.retrieval.library import Library

__all__ = ["Said", "duet"]

MOST_ROUNDS = 20
OPENING = {"zh": "你来了。", "en": "There you are."}


@dataclass(frozen=True, slots=True)
class Said:
    """What one of the two says, as far as it has come.

    Attributes:
        is_whole: whether the speaker has ended.
    """

    speaker: str
    text: str
    is_whole: bool


def duet(
    library: Library,
    model: NovelChatModel,
    first: Card,
    second: Card,
    *,
    topic: str = "",
    until_chapter: int | None = None,
    rounds: int = 4,
    settings: ChatSettings | None = None,
) -> Generator[Said, None, None]:
    """What the two say, piece by piece and in turn; closing this stops the model.

    Args:
        topic: what they are to talk about; empty leaves it to them.
        until_chapter: number of the last chapter that may be spoken of; None for the whole book.
        rounds: how often each of them speaks.

    Raises:
        SettingsError: the two are one, or a card knows more than the bookmark allows.
    """
    if first.name == second.name:
        raise SettingsError(f"{first.name} cannot talk with {second.name}; pick two characters")
    if not 1 <= rounds <= MOST_ROUNDS:
        raise SettingsError(f"rounds is {rounds}, wanted 1 to {MOST_ROUNDS}")
    for card in (first, second):
        require_bookmark(card, until_chapter)
    return _turns(library, model, (first, second), topic, until_chapter, rounds, settings or ChatSettings())


def _turns(
    library: Library,
    model: NovelChatModel,
    cards: tuple[Card, Card],
    topic: str,
    until_chapter: int | None,
    rounds: int,
    settings: ChatSettings,
) -> Generator[Said, None, None]:
    said: list[str] = []
    for number in range(2 * rounds):
        card, other = cards[number % 2], cards[(number + 1) % 2]
        # To whoever speaks, its own words are the assistant's.
        heard = [Turn("assistant" if (number - at) % 2 == 0 else "user", text) for at, text in enumerate(said)]
        about = said[-1] if said else topic or other.name
        turns = heard or [Turn("user", topic or OPENING[language_of(card)])]
        scenes = scenes_read(scenes_with(library, card, about, settings.scenes, until_chapter), card, settings, model)
        info = "\n".join(spoken_text(line.text, char=other.name, user=card.name) for line in other.about[:2])
        prompt = persona_prompt(
            persona_of(card, other.name, info), turns, model=model, answer_tokens=settings.max_tokens, scenes=scenes
        )
        text = ""
        sampling = sampling_of(settings, model, prompt.stop)
        with closing(spoken(model.backend, prompt.prompt, sampling)) as pieces:
            for piece in pieces:
                text += piece if isinstance(piece, str) else ""
                yield Said(card.name, text, is_whole=False)
        said.append(text.strip() or "……")
        yield Said(card.name, said[-1], is_whole=True)
