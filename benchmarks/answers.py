"""Answers by the bundled model: are citations the book's text, how often is an answer right, who is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.library import BOOKS, ROOT, open_library, questions
from core.chains.answers import collect
from core.chains.qa import Question, Reader
from core.chains.relevance import is_answerable
from core.llm.models import load_chat_model

__all__ = ["citations", "refusals"]

MODEL = "builtin:gemma3-270m"
# Asked of every Chinese book: things that no old novel can tell, and heroes of other books.
STRANGE = [
    "他的手机号码是多少？",
    "谁发明了电灯？",
    "哈利波特的魔杖是什么木头做的？",
    "林黛玉葬的是什么花？",
    "这趟航班几点起飞？",
    "他在哪所大学读书？",
    "银行卡密码是多少？",
    "他最喜欢的足球队是哪支？",
    "相对论是谁提出的？",
    "福尔摩斯住在哪条街？",
]


def citations(corpus: Path) -> dict[str, Any]:
    """Every citation on the development questions and the bundled book's against the books' files, by offset."""
    library = open_library(corpus)
    reader = Reader(library, load_chat_model(MODEL, cache_dir=ROOT / "build" / "bench" / "models"))
    bundled = sorted((ROOT / "demos" / "books").glob("*.questions.jsonl"))
    asked = questions(corpus)
    for path in bundled:
        asked += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    files = {book: (corpus / f"{book}.txt").read_text(encoding="utf-8") for book in BOOKS}
    files |= {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "demos" / "books").glob("*.txt")}
    total = equal = found = right = shown = 0
    seconds = []
    for question in asked:
        answer = collect(reader.stream(Question(book_id=library.find(question["book"]), text=question["question"])))
        text = files[question["book"]]
        total += len(answer.citations)
        equal += sum(text[cited.span.start : cited.span.end] == cited.quote for cited in answer.citations)
        quotes = answer.text + "".join(cited.quote for cited in answer.citations)
        found += answer.found
        right += any(wanted in quotes for wanted in question["answers"])
        shown += any(evidence in passage.text for evidence in question["evidence"] for passage in answer.passages)
        if answer.usage is not None:
            seconds.append(answer.usage.elapsed_s)
    return {
        "model": MODEL,
        "questions": len(asked),
        "citations": total,
        "equal_to_the_book": equal,
        "answers_with_support": found,
        "answers_or_quotes_that_hold_the_answer": right,
        "questions_with_evidence_shown": shown,
        "median_answer_s": round(sorted(seconds)[len(seconds) // 2], 2),
    }


def refusals(corpus: Path) -> dict[str, Any]:
    """How many questions pass the first look: real ones, those of another book, and ones no old novel can answer."""
    library = open_library(corpus)
    asked = questions(corpus)
    passed = {"real": [0, 0], "of_another_book": [0, 0], "strange": [0, 0]}
    for book in BOOKS[:2]:
        for question in asked:
            if question["book"] in BOOKS[:2]:
                kind = "real" if question["book"] == book else "of_another_book"
                _count(passed[kind], library, book, question["question"])
        for question_text in STRANGE:
            _count(passed["strange"], library, book, question_text)
    return {f"{kind}_passed": f"{yes} of {total}" for kind, (yes, total) in passed.items()}


def _count(tally: list[int], library: Any, book: str, text: str) -> None:
    book_id = library.find(book)
    found = library.search(book_id, text, top_k=6)
    tally[0] += is_answerable(library.open(book_id), text, found, embedder=library.embedder_slug, until_chapter=None)
    tally[1] += 1
