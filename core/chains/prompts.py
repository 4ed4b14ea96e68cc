"""Prompts for answering from passages: one to be completed by a base model, one to be answered by a chat model.

A base model learns the task from the four examples in front of the question, so they are as short as a good answer is.
The language is the question's. Nothing here knows a model or counts a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.data.dialogues import Turn
from core.data.text import Language
from core.llm.events import Passage

__all__ = ["COMPLETION_STOPS", "answer_dialogue", "answer_prompt", "language_of"]

COMPLETION_STOPS = ("\n",)

_COMPLETION = {
    "zh": (
        "阅读理解：根据文章回答问题，答案用文章里的原文。\n\n",
        "文章：{passage}\n问题：{question}\n答案：{answer}",
        (
            (
                "桥头住着一个老石匠，姓陆，打了四十年石头，左手少了一根小指，人都叫他陆三锤。他有个女儿，唤作秋娘。",
                "老石匠的外号叫什么？",
                "陆三锤。",
            ),
            (
                "阿蛮把信折好，塞进灯座底下，吹灭了灯。她对弟弟说：“天亮以前，谁敲门也不要开。”",
                "阿蛮把信藏在哪里？",
                "塞进灯座底下。",
            ),
            ("那夜大雨，王捕头骑一匹黄骠马赶了八十里路，天明才到青石县。", "王捕头赶了多少里路？", "八十里路。"),
            (
                "刘员外见了画，面如土色，原来画上的人正是他二十年前害死的师兄。",
                "刘员外为什么面如土色？",
                "画上的人正是他二十年前害死的师兄。",
            ),
        ),
    ),
    "en": (
        "Reading comprehension: answer each question from its passage, in the words of the passage.\n\n",
        "Passage: {passage}\nQuestion: {question}\nAnswer:{answer}",
        (
            (
                "At the bridge lived an old mason named Low. He had cut stone for forty years and had lost the little "
                "finger of his left hand.",
                "Which finger had the mason lost?",
                " The little finger of his left hand.",
            ),
            (
                "Anne folded the letter and hid it under the lamp. “Open to nobody before dawn,” she told her brother.",
                "Where did Anne hide the letter?",
                " Under the lamp.",
            ),
            (
                "It rained all night; the constable rode eighty miles.",
                "How far did the constable ride?",
                " Eighty miles.",
            ),
            (
                "The squire turned pale, for the man in the picture was the partner whom he had ruined.",
                "Why did the squire turn pale?",
                " The man in the picture was the partner whom he had ruined.",
            ),
        ),
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
    return "zh" if any("\u3400" <= char <= "\u9fff" or char >= "\U00020000" for char in text) else "en"


def answer_prompt(passages: Sequence[Passage], question: str) -> str:
    """A text that a base model completes with the answer, then ``COMPLETION_STOPS``."""
    task, form, examples = _COMPLETION[language_of(question)]
    shown = [form.format(passage=text, question=asked, answer=answer) for text, asked, answer in examples]
    # The examples stand on one line each, and so must the passages: a line end is what ends the answer.
    joined = " ".join("".join(passage.text.split("\n")) for passage in passages)
    return task + "\n\n".join([*shown, form.format(passage=joined, question=question, answer="")])


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
