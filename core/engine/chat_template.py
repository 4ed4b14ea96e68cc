"""A checkpoint's Jinja template: rendered in a sandbox, and cut into ids so that what a person says stays text.

The rendered text is cut as a whole, as the reference does, so that pieces may reach over the seam between the template
and what was said. Only where something said looks like a control token is the text cut beside the real ones. Nothing
here knows a family of models.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.engine.tokenizer import Tokenizer
from core.errors import ModelError, ModelLoadError

__all__ = ["ChatTemplate", "Rendered", "SafeEncoder"]

ZERO_WIDTH_SPACE = "\u200b"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A dialogue as text.

    Attributes:
        said: where what was said stands in it, (start, stop), in order; None where the template rewrote it.
        contents: what was said.
    """

    text: str
    said: tuple[tuple[int, int], ...] | None
    contents: tuple[str, ...]


class ChatTemplate:
    """A template as transformers understands it.

    Raises:
        ModelLoadError: it is no Jinja template.
    """

    def __init__(self, source: str, variables: Mapping[str, Any]) -> None:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._variables = dict(variables)
        try:
            self._template = environment.from_string(source)
        except TemplateError as wrong:
            raise ModelLoadError(f"the chat template cannot be read ({wrong}); fetch the checkpoint again") from wrong

    def render(self, turns: Sequence[tuple[str, str]]) -> Rendered:
        """The dialogue up to where the model is to speak.

        Raises:
            ModelError: the template refuses this dialogue.
        """
        text = self._text(turns)
        contents = tuple(content for _, content in turns)
        return Rendered(text, self._places(turns, text), contents)

    def _places(self, turns: Sequence[tuple[str, str]], text: str) -> tuple[tuple[int, int], ...] | None:
        """Where the contents stand, found by a second rendering with words that nobody can have said."""
        words = [f"x{secrets.token_hex(8)}x" for _ in turns]
        try:
            marked = self._text([(role, word) for (role, _), word in zip(turns, words, strict=True)])
        except ModelError:
            return None
        found = sorted((marked.find(word), word, content) for word, (_, content) in zip(words, turns, strict=True))
        if any(marked.count(word) > 1 for word in words):
            return None
        places, rebuilt, last = [], "", 0
        for at, word, content in found:
            if at < 0:
                continue  # a template may leave a turn out
            rebuilt += marked[last:at]
            # Many templates strip what was said.
            shown = content if text.startswith(rebuilt + content) else content.strip()
            places.append((len(rebuilt), len(rebuilt) + len(shown)))
            rebuilt += shown
            last = at + len(word)
        return tuple(places) if rebuilt + marked[last:] == text else None

    def _text(self, turns: Sequence[tuple[str, str]]) -> str:
        from jinja2 import TemplateError

        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._variables)
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as refusal:
            raise ModelError(f"the model's chat template refuses this dialogue: {refusal}") from refusal


class SafeEncoder:
    """Cuts rendered dialogues into ids; control tokens only where the template wrote them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids = {text: number for text, number in tokenizer.special_tokens.items() if text}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode(self, rendered: Rendered) -> list[int]:
        """The ids of a rendered dialogue."""
        text, said = rendered.text, rendered.said
        if said is None:
            for content in rendered.contents:
                # The template rewrote what was said, so its place is unknown: a space of no width breaks look-alikes.
                safe = self._pattern.sub(lambda found: found[0][:1] + ZERO_WIDTH_SPACE + found[0][1:], content)
                if safe != content:
                    text = text.replace(content, safe).replace(content.strip(), safe.strip())
            return self._tokenizer.encode(text, parse_special=True)
        matches = list(self._pattern.finditer(text))
        real = [one for one in matches if not any(one.start() < stop and start < one.end() for start, stop in said)]
        if len(real) == len(matches):
            return self._tokenizer.encode(text, parse_special=True)
        ids: list[int] = []
        at = 0
        for match in real:
            if at < match.start():
                ids += self._tokenizer.encode(text[at : match.start()])
            ids.append(self._ids[match[0]])
            at = match.end()
        return ids + self._tokenizer.encode(text[at:]) if at < len(text) else ids


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    # Jinja's own filter escapes signs of HTML, which a model has never seen.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
