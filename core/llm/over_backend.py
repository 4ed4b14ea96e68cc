"""What the chat model and the completion model have in common: a backend, and keywords that become its settings.

Nothing here knows messages, prompts as LangChain writes them, or how tokens are made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Literal

from langchain_core.language_models import LangSmithParams
from langchain_core.messages.ai import UsageMetadata
from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from core.errors import SettingsError
from core.llm.backend import Finish, Prompt, SamplingSettings, TokenBackend

__all__ = ["OverBackend", "usage_of"]

KNOWN = tuple(field.name for field in fields(SamplingSettings))
OTHER_NAMES = {"max_tokens": "max_new_tokens"}
IGNORED = frozenset({"stream"})
"""Keywords of a call that LangChain itself passes on after acting on them."""
NOT_OURS = frozenset({"api_key", "max_retries", "streaming", "timeout"})
"""LangChain's standard parameters of a model that a backend has settled: how to reach a server, and to stream."""


class OverBackend(BaseModel):
    """The half of a LangChain model that a backend fills.

    The fields of ``SamplingSettings`` (and ``max_tokens`` for ``max_new_tokens``) may be given when the model is made,
    bound or called. The latest wins, but the stop strings of a call are added to the model's.

    Raises:
        SettingsError: a keyword is unknown, or its value cannot work.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    model_type: ClassVar[Literal["chat", "llm"]]
    more_keywords: ClassVar[tuple[str, ...]] = ()
    """Keywords of a call that are no sampling settings."""

    backend: SkipValidation[TokenBackend] = Field(exclude=True)
    sampling: SamplingSettings = SamplingSettings()

    def __init__(self, **values: Any) -> None:
        # Not a validator: pydantic would wrap the error, which is a ValueError, into its own.
        own = {name: value for name, value in values.items() if name in type(self).model_fields}
        keywords = {name: value for name, value in values.items() if name not in own and name not in NOT_OURS}
        own["sampling"] = _changed(own.get("sampling", SamplingSettings()), keywords)
        super().__init__(**own)

    @property
    def context_tokens(self) -> int:
        """Tokens that the model holds, prompt and answer together."""
        return self.backend.context_tokens

    def get_num_tokens(self, text: str) -> int:
        return self.backend.count_tokens(text)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.backend.name, **asdict(self.sampling)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # A trace names the model that was asked for, even though a call that asks for another one is then refused.
        name = kwargs.pop("model", self.backend.name)
        sampling = self._settings(stop, kwargs)
        return LangSmithParams(
            ls_provider="novelscope",
            ls_model_name=name,
            ls_model_type=self.model_type,
            ls_temperature=sampling.temperature,
            ls_max_tokens=sampling.max_new_tokens,
            ls_stop=list(sampling.stop),
        )

    def _settings(self, stop: Sequence[str] | None, keywords: Mapping[str, Any]) -> SamplingSettings:
        """The settings of one call.

        Raises:
            SettingsError: a keyword is unknown, or its value cannot work.
        """
        wanted = {name: value for name, value in keywords.items() if name not in IGNORED}
        if stop is not None:
            # A lone string is left for the settings to refuse: each of its characters would stop the answer.
            wanted["stop"] = stop if isinstance(stop, str) else tuple(dict.fromkeys((*self.sampling.stop, *stop)))
        return _changed(self.sampling, wanted, more=self.more_keywords)

    @contextmanager
    def _pieces(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[Iterator[str | Finish]]:
        """The backend's stream, closed on leaving."""
        pieces = self.backend.stream(prompt, sampling)
        try:
            yield pieces
        finally:
            # A generator has close(); a plain iterator has nothing that could be stopped.
            if isinstance(pieces, Generator):
                pieces.close()


def _changed(sampling: SamplingSettings, keywords: Mapping[str, Any], *, more: Sequence[str] = ()) -> SamplingSettings:
    """The settings with the keywords in place of theirs; None is not given, and those in ``more`` are left out."""
    wanted = {OTHER_NAMES.get(name, name): value for name, value in keywords.items() if name not in more}
    if unknown := sorted(set(wanted) - set(KNOWN)):
        raise SettingsError(f"unknown settings {', '.join(unknown)}; there are {', '.join((*KNOWN, *more))}")
    if isinstance(wanted.get("stop"), list):
        wanted["stop"] = tuple(wanted["stop"])
    return replace(sampling, **{name: value for name, value in wanted.items() if value is not None or name == "seed"})


def usage_of(finish: Finish) -> UsageMetadata:
    """The finish's tokens as LangChain counts them."""
    return UsageMetadata(
        input_tokens=finish.input_tokens,
        output_tokens=finish.output_tokens,
        total_tokens=finish.input_tokens + finish.output_tokens,
    )
