"""Prompts for answering from passages: one to be completed by a base model, one to be answered by a chat model.

A base model learns the task from the two examples in front of the question, so they are as short as a good answer is.
The language is the question's. Nothing here knows a model or counts a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.chains.events import Passage
from core.data.dialogues import Turn
from core.data.text import Language

__all__ = ["COMPLETION_STOPS", "answer_dialogue", "answer_prompt", "language_of"]

COMPLETION_STOPS = ("\n",)

_COMPLETION = {
    "zh": (
        "读小说片段，用片段里的原话简短地回答问题。\n\n",
        "片段：桥头住着一个老石匠，姓陆，打了四十年石头，左手少了一根小指，人都叫他陆三锤。\n"
        "问题：老石匠的外号叫什么？\n回答：陆三锤。\n\n"
        "片段：阿蛮把信折好，塞进灯座底下，吹灭了灯。她对弟弟说：“天亮以前，谁敲门也不要开。”\n"
        "问题：阿蛮把信藏在哪里？\n回答：她把信塞进灯座底下。\n\n",
        "片段：{passages}\n问题：{question}\n回答：",
    ),
    "en": (
        "Read the passage of a novel and answer the question briefly, in the words of the passage.\n\n",
        "Passage: At the bridge lived an old mason named Low. He had cut stone for forty years and had lost the little "
        "finger of his left hand.\nQuestion: Which finger had the mason lost?\nAnswer: The little finger of his left "
        "hand.\n\n"
        "Passage: Anne folded the letter and hid it under the lamp. “Open to nobody before dawn,” she told her "
        "brother.\nQuestion: Where did Anne hide the letter?\nAnswer: She hid it under the lamp.\n\n",
        "Passage: {passages}\nQuestion: {question}\nAnswer:",
    ),
}

_CHAT = {
    "zh": (
        "你是一位严谨的小说读者助手。只根据给出的原文片段回答，尽量使用原文的词句，先用一两句话直接回答，再在需要时补充。"
        "片段里没有答案时，只回答“书中没有提到”。不要编造，不要使用片段以外的知识。",
        "《{title}》的原文片段：\n\n{passages}\n\n问题：{question}",
        "【{number}】（{chapter}）\n{text}",
    ),
    "en": (
        "You help a reader with a novel. Answer only from the passages given, in their own words where you can: first "
        "the answer in a sentence or two, then more only if it is needed. If the passages do not hold the answer, say "
        "only “The book does not say.” Never invent, never use other knowledge.",
        "Passages of “{title}”:\n\n{passages}\n\nQuestion: {question}",
        "[{number}] ({chapter})\n{text}",
    ),
}


def language_of(text: str) -> Language:
    """The language to answer in: Chinese as soon as there is a Han character."""
    return "zh" if any("\u3400" <= char <= "\u9fff" or "\U00020000" <= char for char in text) else "en"


def answer_prompt(passages: Sequence[Passage], question: str) -> str:
    """A text that a base model completes with the answer, then ``COMPLETION_STOPS``."""
    task, examples, form = _COMPLETION[language_of(question)]
    # The examples stand on one line each, and so must the passages: a line end is what ends the answer.
    joined = " ".join("".join(passage.text.split("\n")) for passage in passages)
    return task + examples + form.format(passages=joined, question=question)


def answer_dialogue(
    title: str, passages: Sequence[Passage], question: str, history: Sequence[Turn]
) -> tuple[Turn, ...]:
    """A dialogue that a chat model answers; earlier turns stand before the passages of this question."""
    system, form, one = _CHAT[language_of(question)]
    joined = "\n\n".join(
        one.format(number=passage.number, chapter=passage.chapter_title, text=passage.text) for passage in passages
    )
    earlier = (turn for turn in history if turn.role != "system")
    asked = form.format(title=title, passages=joined, question=question)
    return (Turn("system", system), *earlier, Turn("user", asked))
