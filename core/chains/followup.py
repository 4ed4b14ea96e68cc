"""Make a follow-up question stand on its own, so that it can be searched for.

"他后来怎么样了？" names nobody. The name is found in the conversation: the longest run of characters there that
the book itself uses often. A large model could rewrite the question; a small one cannot be trusted to, and
this is instant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from core.data.dialogues import Turn
from core.data.text import Language
from core.retrieval.tokens import question_terms, strip_question_words

__all__ = ["standalone_question"]

_PERSON = re.compile(
    r"他们|她们|他|她|此人|那人|这个人|那个人|这人|\b(?:he|she|him|her|his|hers|they|them|their)\b", re.I
)
_THING = re.compile(r"它们?|\bits?\b", re.I)
_CONTINUES = re.compile(r"^(然后|后来|接着|之后|那么|那|为什么|结果|还有|and|then|why|what about|how about)", re.I)
_NAME_EN = re.compile(r"(?:(?:Mr|Mrs|Miss|Ms|Dr|Sir|Lady|Colonel|Captain)\.? )?[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_HAN_RUN = re.compile(r"[一-鿿]+")
_FUNCTION = set(
    "的了是在他她它我你这那有和与就也都不而把被让给对从到说道着过个之其中上下里去来会要能可以及为于什么谁哪怎样几多少吗呢后前"
)
_NAME_CHARS = range(2, 5)
_MIN_USES, SUBJECT_FIRST = 3, 0.3


def standalone_question(question: str, history: Sequence[Turn], text: str, language: Language) -> str:
    """The question with what it leaves to the conversation put in; unchanged when it needs nothing.

    Args:
        text: of the novel; how often it uses a run of characters tells names from other words.
    """
    asked = [turn.content for turn in history if turn.role == "user"]
    if not asked or not _depends(question):
        return question
    name = _name_in(asked[-1], text, language) or _name_in(_last_answer(history), text, language)
    if name and name not in question:
        replaced, count = _PERSON.subn(name, question, count=1)
        if count:
            return replaced
    # A thing, or a bare "why?": no name alone says what was talked about.
    return f"{asked[-1]} {question}"


def _depends(question: str) -> bool:
    has_pronoun = _PERSON.search(question) or _THING.search(question)
    return bool(has_pronoun or _CONTINUES.search(question) or len(set(question_terms(question))) < 2)


def _last_answer(history: Sequence[Turn]) -> str:
    return next((turn.content for turn in reversed(history) if turn.role == "assistant"), "")


def _name_in(said: str, text: str, language: Language) -> str | None:
    """Who or what an utterance is about: its first name, as far as the book knows it."""
    if language != "zh":
        questioning = {"Who", "What", "Where", "When", "Why", "How", "Which", "Does", "Did", "Is", "The", "In"}
        names = (match[0] for match in _NAME_EN.finditer(said) if match[0].split()[0] not in questioning)
        return next((name for name in names if text.count(name) >= _MIN_USES), None)
    best: tuple[float, str] | None = None
    for run in _HAN_RUN.finditer(strip_question_words(said)):
        for length in _NAME_CHARS:
            for place in range(len(run[0]) - length + 1):
                word = run[0][place : place + length]
                if _FUNCTION & {word[0], word[-1]} or (uses := text.count(word)) < _MIN_USES:
                    continue
                # Longer runs are rarer by nature, so length counts more than use; what is named first is the subject.
                score = length**3 * uses**0.5 / (1 + SUBJECT_FIRST * (run.start() + place))
                if best is None or score > best[0]:
                    best = (score, word)
    return best[1] if best else None
