"""A prompt and a model as one callable: ``predict`` gives a string, ``stream`` gives its pieces as they are made.

It is what ``LLMChain`` was used for, with the streaming that it never had, over any LangChain chat model. Nothing here
knows a book.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate, PromptTemplate

from core.errors import ModelError, SettingsError
from core.llm.events import Event, Failed, Token
from core.llm.streams import as_async, model_events

__all__ = ["PromptChain"]


class PromptChain:
    """Fills a prompt and lets a model answer it.

    Args:
        model: any LangChain chat model; one of ours takes further keywords, such as ``raw=True`` for plain completion.
        prompt: a template, or its text with ``{names}`` in braces.
        keywords: of every call of the model.
    """

    def __init__(self, model: BaseChatModel, prompt: BasePromptTemplate[Any] | str, **keywords: Any) -> None:
        self._model, self._keywords = model, keywords
        self._prompt = PromptTemplate.from_template(prompt) if isinstance(prompt, str) else prompt

    def predict(self, **values: Any) -> str:
        """The whole answer.

        Raises:
            SettingsError: the prompt's values are not these.
            ModelError: the model could not answer.
        """
        return "".join(self.stream(**values))

    async def apredict(self, **values: Any) -> str:
        """As ``predict``, without holding up the event loop."""
        async with aclosing(self.astream(**values)) as pieces:
            return "".join([piece async for piece in pieces])

    def stream(self, **values: Any) -> Generator[str, None, None]:
        """The answer's pieces; closing the iterator stops the model within one token.

        Raises:
            SettingsError, ModelError: as ``predict``; the pieces before it stay true.
        """
        with closing(self.events(**values)) as events:
            for event in events:
                if piece := _piece(event):
                    yield piece

    async def astream(self, **values: Any) -> AsyncGenerator[str, None]:
        """As ``stream``; leave it through ``contextlib.aclosing``."""
        async with aclosing(self.aevents(**values)) as events:
            async for event in events:
                if piece := _piece(event):
                    yield piece

    def events(self, *, halt: threading.Event | None = None, **values: Any) -> Generator[Event, None, None]:
        """The answer as typed events, with exactly one terminal event.

        Args:
            halt: set from any thread, it ends the answer; what was written is kept in ``Stopped``.

        Raises:
            SettingsError: the prompt's values are not these; before the first event.
        """
        wanted, given = set(self._prompt.input_variables), set(values)
        if wanted != given:
            raise SettingsError(f"the prompt wants {_listed(wanted)} and was given {_listed(given)}")
        messages = self._prompt.format_prompt(**values).to_messages()
        return model_events(self._model, messages, halt=halt, **self._keywords)

    def aevents(self, *, halt: threading.Event | None = None, **values: Any) -> AsyncGenerator[Event, None]:
        """As ``events``; leave it through ``contextlib.aclosing``."""
        return as_async(self.events(halt=halt, **values))


def _piece(event: Event) -> str:
    if isinstance(event, Failed):
        raise ModelError(event.message)
    return event.text if isinstance(event, Token) else ""


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
