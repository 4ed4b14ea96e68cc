"""What a character keeps of a conversation: what the other says of themself, and in short what was said long ago.

A fact is a whole sentence in the other's own words. A summary is a chat model's, or, where there is none or it fails,
the beginnings of what the other said. Nothing here knows a book, or how memories lie on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from core.data.dialogues import Turn
from core.data.sentences import sentences
from core.data.text import Language
from core.errors import NovelscopeError
from core.llm.backend import SamplingSettings
from core.llm.chat_model import NovelChatModel
from core.llm.events import Status
from core.llm.loops import is_looping
from core.persona.memory import Memory

__all__ = ["facts_told", "folding"]

# Longer ones would leave no room in a prompt for what is said now.
LONGEST_FACT = {"zh": 100, "en": 300}
LEAD_ZH = "其实|不过|但是?|因为|所以|而且|还有|对了|原来|你好|您好"
ABOUT_ONESELF = {
    "zh": re.compile(
        rf"(?:^|(?<![说道问讲想])[，,、；;：:])\s*(?:{LEAD_ZH})?(?:我|俺|咱)"
        r"(?!不(?:知|懂|明白|清楚|记得|是[说问])|有(?:[个些]|一[个些])?(?:问题|疑问)|在(?:想|问|说)|是[说问想])"
        r"(?:叫|是|姓|住|喜欢|爱|讨厌|最|有|养|在|的|今年|昨天|今天|刚|会|不)"
    ),
    "en": re.compile(
        r"(?:^(?:(?:and|but|so|well|actually|hello|hi|yes|no)\W+)?|(?<!say)(?<!said)(?<!says)[,;:] (?:and |but )?)"
        r"(?:I(?:['’](?:m|ve))? "
        r"(?!think|thought|wonder|mean|meant|guess|see|know|said|say|ask|do(?:n['’]t| not) (?:know|understand))|My )",
        re.IGNORECASE,
    ),
}
QUESTION = re.compile(r"[?？]|(?:吗|呢)[。.…!！]*\s*$")
SUMMARY_TOKENS, EXTRACT_CHARS, EXTRACTS_CHARS = 160, 40, 400
SUMMARY_TASK = {
    "zh": "把下面的谈话缩写成两三句话，只写谈过什么、约定了什么。",
    "en": "Shorten the conversation below to two or three sentences: only what was spoken of, and what was agreed.",
}
SPEAKER = {"zh": "{name}：{text}", "en": "{name}: {text}"}
JOINT = {"zh": "；", "en": "; "}


def facts_told(message: str, language: Language) -> Iterator[str]:
    """The sentences of a message in which its speaker says something of themself, word for word; no questions."""
    for span in sentences(message, 0, len(message), language):
        sentence = span.of(message)
        is_short = len(sentence) <= LONGEST_FACT[language]
        if is_short and ABOUT_ONESELF[language].search(sentence) and not QUESTION.search(sentence):
            yield sentence


def folding(
    memory: Memory,
    whose: tuple[str, str, int | None],
    *,
    limit: int,
    keep: int,
    names: tuple[str, str],
    language: Language,
    model: NovelChatModel,
) -> Generator[Status, None, None]:
    """Put the oldest turns into the summary if there are too many; a sign of life for each piece that the model makes.

    Closing this stops the model, and leaves the turns as they were for the next time.

    Args:
        whose: reader, character and bookmark, as ``Memory`` takes them.
        limit, keep: as ``Memory.fold``.
        names: of the one who talks with the character, and of the character.
    """
    asked: list[tuple[str, list[Turn]]] = []

    def see(before: str, old: Sequence[Turn]) -> str:
        asked.append((before, list(old)))
        return ""

    memory.fold(*whose, limit=limit, keep=keep, summarise=see)
    if not asked:
        return
    before, old = asked[0]
    text = (yield from _summary(before, old, names, language, model)) if model.is_chat else ""
    text = text or _extracts(before, old, names[0], language)
    # What a summary was made of may have changed while it was made; then it is none.
    memory.fold(
        *whose, limit=limit, keep=keep, summarise=lambda again, turns: text if (again, list(turns)) == asked[0] else ""
    )


def _summary(
    before: str, old: Sequence[Turn], names: tuple[str, str], language: Language, model: NovelChatModel
) -> Generator[Status, None, str]:
    """The model's summary; "" where it makes none."""
    speaker = dict(zip(("user", "assistant"), names, strict=True))
    lines = [SPEAKER[language].format(name=speaker.get(turn.role, ""), text=turn.content) for turn in old]
    prompt = [Turn("user", "\n".join([SUMMARY_TASK[language], "", *filter(None, [before]), *lines]))]
    said = ""
    try:
        sampling = SamplingSettings(max_new_tokens=SUMMARY_TOKENS, temperature=0.0)
        with closing(model.backend.stream(prompt, sampling)) as pieces:  # type: ignore[type-var]  # made as a generator
            for piece in pieces:
                said += piece if isinstance(piece, str) else ""
                if is_looping(said):
                    return ""
                yield Status("thinking")
    except NovelscopeError:
        # An answer was given all the same, and turns too long for the model today are too long for it tomorrow.
        return ""
    return said.strip()


def _extracts(before: str, old: Sequence[Turn], name: str, language: Language) -> str:
    said = [turn.content[:EXTRACT_CHARS] for turn in old if turn.role == "user"]
    lines = [SPEAKER[language].format(name=name, text=text) for text in said]
    return JOINT[language].join(filter(None, [before, *lines]))[-EXTRACTS_CHARS:]
