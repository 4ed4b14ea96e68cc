"""What a model is told so that it speaks as somebody: instructions for a chat model, a transcript for a base model.

A base model goes on with what it reads, so it reads a play: two short examples, who the two are, what was said so far,
and the speaker's name. Nothing here knows where a persona comes from; nothing of one call is kept for the next.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.data.dialogues import Turn
from core.errors import PromptTooLong
from core.llm.backend import Prompt

__all__ = ["Persona", "SpokenPrompt", "SpokenTo", "fitting_turns", "persona_prompt", "repetition_penalty"]

DEFAULT_USER = "用户"
MOST_NAME_CHARS = 40
BASE_INFO_CHARS, BASE_SAYINGS = 200, 2
BASE_REPETITION_PENALTY = 1.2
HAN = re.compile("[\u3400-\u9fff]")
# What would end a speaker's label, or begin another's.
UNFIT = re.compile(r"[\s:：]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """Two who talk.

    Attributes:
        bot_name, bot_info: whom the model plays, and what is to be known of them.
        user_name, user_info: who talks with them.
        sayings: words of the one who is played, as examples of the voice.
    """

    bot_name: str
    bot_info: str = ""
    user_name: str = DEFAULT_USER
    user_info: str = ""
    sayings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpokenPrompt:
    """What is put before the model.

    Attributes:
        prompt: a dialogue, or a text that the model continues.
        stop: strings that end what is said.
        turns_left_out: of the oldest turns, those that had no room.
    """

    prompt: Prompt
    stop: tuple[str, ...]
    turns_left_out: int


class SpokenTo(Protocol):
    """What has to be known of the model."""

    @property
    def is_chat(self) -> bool: ...

    @property
    def context_tokens(self) -> int: ...

    def count_tokens(self, prompt: Prompt) -> int: ...


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a persona is introduced in one language."""

    instruction: str
    user: str
    sayings: str
    scenes: str
    label: str
    task: str
    person: str
    passage: str
    examples: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]


_MANNERS = {
    "zh": _Manner(
        instruction="你是{bot}，正在和{user}说话。始终以{bot}的身份、口吻和见识，用第一人称说话；"
        "不提你是模型或程序，不替{user}说话，不知道的事就按{bot}的性子说不知道。",
        user="{user}：{info}",
        sayings="{bot}说话的样子：\n{lines}",
        scenes="书中有{bot}在场的片段，只可据此回忆往事：\n{scenes}",
        label="{name}：",
        task="小说里的人物和人说话：用自己的口气，照原文里的事回答。",
        person="人物：{name}。{info}",
        passage="原文：{text}",
        examples=(
            (
                "陆三锤。老石匠，话不多，打了四十年石头。",
                "桥塌了半边，县里来人催。陆三锤看了看水，说三天修好，左手少了小指，握锤还是稳的。",
                (("客人", "桥几时修得好？"), ("陆三锤", "三天。水不涨，就三天。")),
            ),
            (
                "阿蛮。石匠家的小女儿，胆大嘴快。",
                "阿蛮把信折好，塞进灯座底下，吹灭了灯，叫弟弟天亮以前谁敲门也不要开。",
                (("更夫", "那封信呢，你藏哪儿了？"), ("阿蛮", "塞在灯座底下了。你可别嚷，我弟弟还睡着呢。")),
            ),
        ),
    ),
    "en": _Manner(
        instruction="You are {bot}, talking with {user}. Stay {bot} in voice, temper and knowledge, in the "
        "first person; never say that you are a model or a program, never speak for {user}, and of what {bot} cannot "
        "know say, in {bot}'s own way, that you do not know it.",
        user="{user}: {info}",
        sayings="How {bot} speaks:\n{lines}",
        scenes="Scenes of the book in which {bot} took part, the only past to remember:\n{scenes}",
        label="{name}: ",
        task="People of novels talk: each in a voice of their own, of what the passage tells.",
        person="Person: {name}. {info}",
        passage="Passage: {text}",
        examples=(
            (
                "Old Low. A mason of few words, forty years at the stone.",
                "Half the bridge was down. Low looked at the river and said three days, his hand steady on the hammer.",
                (
                    ("Guest", "When will the bridge be mended?"),
                    ("Old Low", "Three days. If the river keeps low, three."),
                ),
            ),
            (
                "Anne. The mason's daughter, bold and quick of tongue.",
                "Anne folded the letter, hid it under the lamp, and told her brother to open to nobody before dawn.",
                (
                    ("Watchman", "Where did you put that letter?"),
                    ("Anne", "Under the lamp. And not so loud, my brother is asleep!"),
                ),
            ),
        ),
    ),
}


def persona_prompt(
    persona: Persona,
    turns: Sequence[Turn],
    *,
    model: SpokenTo,
    answer_tokens: int,
    scenes: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> SpokenPrompt:
    """A prompt that the model answers as the persona, in the persona's language.

    Args:
        turns: the conversation, oldest first; system turns are further instructions.
        answer_tokens: room to leave for what is to be said.
        scenes: of the book, that the character remembers.
        notes: what the character remembers of the one it talks with.

    Raises:
        PromptTooLong: the persona and the last turn do not fit by themselves; the oldest turns are left out first.
    """
    manner = _MANNERS["zh" if HAN.search(persona.bot_name + persona.bot_info) or _speaks_chinese(turns) else "en"]
    bot, user = _label(persona.bot_name), _label(persona.user_name or DEFAULT_USER)
    if bot == user:
        user = f"{user}′"
    given = [turn.content.strip() for turn in turns if turn.role == "system"]
    talk = [turn for turn in turns if turn.role != "system"]
    facts_of_user = []
    if persona.user_info.strip():
        facts_of_user.append(manner.user.format(user=user, info=persona.user_info.strip()))
    facts = [persona.bot_info.strip(), *given, *facts_of_user, *notes]
    if persona.sayings:
        facts.append(manner.sayings.format(bot=bot, lines="\n".join(persona.sayings)))
    if model.is_chat:
        if scenes:
            facts.append(manner.scenes.format(bot=bot, scenes="\n".join(scenes)))
        head = Turn("system", "\n\n".join([manner.instruction.format(bot=bot, user=user), *filter(None, facts)]))
        return _fitted(talk, lambda kept: [head, *kept], model, answer_tokens, ())
    labels = {"user": manner.label.format(name=user), "assistant": manner.label.format(name=bot)}
    opening = [manner.task, ""]
    for info, passage, lines in manner.examples:
        said = [manner.label.format(name=name) + words for name, words in lines]
        opening += [manner.person.partition("{")[0] + info, manner.passage.format(text=passage), *said, ""]
    # A line break would let one line speak for another.
    opening.append(
        manner.person.format(name=bot, info=_line(" ".join(_in_short(persona, [*given, *facts_of_user, *notes]))))
    )
    opening += [manner.passage.format(text=_line(scene)) for scene in scenes]

    def play(kept: Sequence[Turn]) -> str:
        lines = [labels[turn.role] + _line(turn.content) for turn in kept]
        # Without the space: tokenizers join it to the word that follows.
        return "\n".join([*opening, *lines, labels["assistant"].rstrip()])

    return _fitted(talk, play, model, answer_tokens, ("\n",))


def fitting_turns(turns: Sequence[Turn], *, model: SpokenTo, answer_tokens: int) -> SpokenPrompt:
    """The turns without a persona; as many of the oldest are left out as the model's context asks.

    Raises:
        PromptTooLong: the instructions and the last turn do not fit by themselves.
    """
    head = [turn for turn in turns if turn.role == "system"]
    talk = [turn for turn in turns if turn.role != "system"]
    return _fitted(talk, lambda kept: [*head, *kept], model, answer_tokens, ())


def repetition_penalty(model: SpokenTo) -> float:
    """Of the model's sampling: a base model falls into loops, the more so in a conversation."""
    return 1.0 if model.is_chat else BASE_REPETITION_PENALTY


def _fitted(
    talk: Sequence[Turn],
    prompt_of: Callable[[Sequence[Turn]], Prompt],
    model: SpokenTo,
    answer_tokens: int,
    stop: tuple[str, ...],
) -> SpokenPrompt:
    room = model.context_tokens - answer_tokens

    def needed(left_out: int) -> int:
        return model.count_tokens(prompt_of(talk[left_out:]))

    # Fewer turns never take more tokens, so the least number that has to go is found by halving.
    left_out = bisect_left(range(max(0, len(talk) - 1)), True, key=lambda number: needed(number) <= room)
    if (tokens := needed(left_out)) > room:
        raise PromptTooLong(tokens, model.context_tokens)
    return SpokenPrompt(prompt_of(talk[left_out:]), stop, left_out)


def _label(name: str) -> str:
    """A name that can stand before a colon."""
    return UNFIT.sub(" ", name).strip()[:MOST_NAME_CHARS] or DEFAULT_USER


def _in_short(persona: Persona, more: Sequence[str]) -> list[str]:
    """As much of a persona as a base model keeps to: of a whole page it would go on with the page."""
    info = persona.bot_info.strip()
    if len(info) > BASE_INFO_CHARS:
        lines = [line for line in info.splitlines() if len(line) <= BASE_INFO_CHARS]
        info = "\n".join(lines)[:BASE_INFO_CHARS] or info[:BASE_INFO_CHARS]
    return [info, *(f"“{saying}”" for saying in persona.sayings[:BASE_SAYINGS]), *more]


def _line(text: str) -> str:
    return " ".join(text.split())


def _speaks_chinese(turns: Sequence[Turn]) -> bool:
    said = [turn.content for turn in turns if turn.role == "user"]
    return bool(said and HAN.search(said[-1]))
