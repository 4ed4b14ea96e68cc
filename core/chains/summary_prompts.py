"""Prompts for summaries: of a piece of a chapter, of a person's part in it, and of what was summarised before.

A chat model is told what to do; a base model is shown two examples and completes the third, so its passages are short.
Nothing here knows a model or counts a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from core.data.dialogues import Turn
from core.data.text import Language

__all__ = ["COMPLETION_STOPS", "Task", "completion", "dialogue"]

COMPLETION_STOPS = ("\n",)

Task = Literal["chapter", "person", "join", "book", "recap", "person_story"]
"""``chapter`` and ``person`` read the novel; ``join`` reads summaries of neighbouring parts; the others write what the
reader asked for from summaries of everything."""

_CHAT: dict[Language, dict[Task, str]] = {
    "zh": {
        "chapter": "概括《{title}》“{part}”这一段的情节：谁做了什么，结果如何。用三到五句话，按先后次序，"
        "只写原文里有的事，不评论。\n\n原文：\n{text}",
        "person": "只根据原文，用两三句话写出{person}在《{title}》“{part}”里做了什么、遭遇了什么。"
        "不写别人的事，不评论。\n\n原文：\n{text}",
        "join": "下面是《{title}》相邻几部分的梗概。合成一段连贯的梗概，按先后次序，保留人名和结果，"
        "不加梗概以外的内容。\n\n{text}",
        "book": "下面是《{title}》{part}的梗概。写成一篇连贯的全文概要：起因、经过、结局，保留主要人物的名字，"
        "不加梗概以外的内容。\n\n{text}",
        "recap": "读者读到《{title}》{part}。根据下面的梗概写一段前情提要，帮他接着读下去：发生过什么，"
        "眼下各人处境如何。不要猜测后来的事。\n\n{text}",
        "person_story": "根据下面的梗概，写出{person}在《{title}》{part}里的经历，按先后次序，只写{person}。\n\n{text}",
    },
    "en": {
        "chapter": "Summarise this part, “{part}”, of “{title}”: who does what, and what comes of it. Three to five "
        "sentences in order of events, only what the text says, no comment.\n\nText:\n{text}",
        "person": "From the text alone, say in two or three sentences what {person} does and meets with in “{part}” "
        "of “{title}”. Nothing about others, no comment.\n\nText:\n{text}",
        "join": "These are summaries of neighbouring parts of “{title}”. Join them into one, in order of events; keep "
        "names and outcomes, add nothing.\n\n{text}",
        "book": "These are summaries of {part} of “{title}”. Write one connected synopsis: how it begins, what "
        "happens, how it ends. Keep the names of the main characters, add nothing.\n\n{text}",
        "recap": "A reader has read {part} of “{title}”. From these summaries write the story so far, so that the "
        "reader can go on: what has happened and how matters stand. Do not guess what comes later.\n\n{text}",
        "person_story": "From these summaries write what happens to {person} in {part} of “{title}”, in order of "
        "events, about {person} alone.\n\n{text}",
    },
}

_READ: dict[Language, tuple[str, str, Sequence[tuple[str, str, str]]]] = {
    "zh": (
        "把小说片段缩写成一两句话。\n\n",
        "片段（{part}）：{text}\n缩写：",
        (
            (
                "第三章 石桥",
                "天还没亮，陆三锤就被敲门声惊醒。来的是县里的差人，说桥断了，要他带徒弟去修。秋娘拦着不让，"
                "说他腿伤没好。陆三锤叹了口气，还是背上锤子走了。到了河边，水已漫过桥墩。",
                "差人天不亮就来叫陆三锤修断桥，女儿秋娘劝阻不住，他带伤去了河边。",
            ),
            (
                "第九回 雨夜送信",
                "阿蛮把信缝进衣襟，冒雨出城。守门的兵丁盘问她，她说母亲病重，要去请郎中。兵丁见她年纪小，放她走了。"
                "她走了一夜，天明时把信交到王捕头手里。",
                "阿蛮骗过守门兵丁，冒雨走了一夜，把信送到王捕头手里。",
            ),
        ),
    ),
    "en": (
        "Each passage of a novel is shortened to a sentence or two.\n\n",
        "Passage ({part}): {text}\nShortened:",
        (
            (
                "Chapter 3. The Bridge",
                "Before dawn a knock woke old Low. The constable had come: the bridge was down, and he must mend it. "
                "His daughter Anne begged him to stay, for his leg had not healed. Low sighed, took up his hammer and "
                "went. At the river the water already stood above the piers.",
                " Called before dawn to mend the broken bridge, old Low goes to the river in spite of his bad leg and "
                "his daughter's pleading.",
            ),
            (
                "Chapter 9. A Letter in the Rain",
                "Anne sewed the letter into her coat and left the town in the rain. The guard stopped her; she said "
                "her mother was ill and she must fetch a doctor. He let her pass. She walked all night and at daybreak "
                "put the letter into the constable's hand.",
                " Anne slips past the guard, walks all night through the rain and brings the letter to the constable.",
            ),
        ),
    ),
}

_JOINED: dict[Language, tuple[str, str, Sequence[tuple[str, str]]]] = {
    "zh": (
        "把几条情节梗概合成一段通顺的话。\n\n",
        "梗概：{text}\n合成：",
        (
            (
                "桥断了，陆三锤带伤去修。秋娘在家等他。夜里涨水，陆三锤落水失踪。阿蛮下河把他救起。",
                "陆三锤带伤去修断桥，夜里涨水落水失踪，幸而阿蛮下河把他救起，秋娘终于等到了父亲。",
            ),
            (
                "王捕头查到刘员外。刘员外烧了账本。阿蛮送来另一本账。刘员外被押进县衙。",
                "王捕头查到刘员外头上，刘员外烧了账本，阿蛮却送来另一本，刘员外终被押进县衙。",
            ),
        ),
    ),
    "en": (
        "Notes on a plot are joined into a few smooth sentences.\n\n",
        "Notes: {text}\nJoined:",
        (
            (
                "The bridge falls and Low goes to mend it. Anne waits at home. The river rises and Low is swept away. "
                "The boy Tom pulls him out.",
                " Low goes to mend the fallen bridge and is swept away when the river rises, but the boy Tom pulls him "
                "out, and Anne has her father back.",
            ),
            (
                "The constable suspects the squire. The squire burns his ledger. Anne brings another. The squire is "
                "taken to gaol.",
                " The constable suspects the squire, who burns his ledger; but Anne brings another one, and the squire "
                "is taken to gaol.",
            ),
        ),
    ),
}


def dialogue(task: Task, language: Language, *, title: str, part: str, text: str, person: str = "") -> tuple[Turn, ...]:
    """What a chat model is asked.

    Args:
        part: what of the book the text is about, in words.
        text: of the novel, or summaries.
    """
    return (Turn("user", _CHAT[language][task].format(title=title, part=part, text=text, person=person)),)


def completion(task: Task, language: Language, *, part: str, text: str) -> str:
    """A text that a base model completes with a summary, then ``COMPLETION_STOPS``."""
    # The examples stand on one line each, and so must the text: a line end is what ends the summary.
    line = ("" if language == "zh" else " ").join(text.split())
    if task in ("chapter", "person"):
        head, form, examples = _READ[language]
        shown = [form.format(part=where, text=read) + short for where, read, short in examples]
        return head + "\n\n".join([*shown, form.format(part=part, text=line)])
    head, joined_form, pairs = _JOINED[language]
    shown = [joined_form.format(text=notes) + joined for notes, joined in pairs]
    return head + "\n\n".join([*shown, joined_form.format(text=line)])
