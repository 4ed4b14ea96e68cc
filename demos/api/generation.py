"""Makes answers to calls: a turn at the model, a prompt that fits it, pieces of text, and a stop when nobody listens.

Closing the pieces frees the place at the model within one token. Nothing here knows how an answer is sent.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.errors import NovelscopeError, PromptTooLong, SettingsError
from core.llm.backend import Finish, Prompt, SamplingSettings
from core.llm.speaking import spoken
from core.llm.stepping import step_async
from core.persona.prompting import fitting_turns, persona_prompt, repetition_penalty
from demos.api.answers import Answer
from demos.api.calls import Call
from demos.api.faults import ApiFault, Code
from demos.api.gate import Gate, closing_fault
from demos.api.metrics import Metrics

if TYPE_CHECKING:
    from core.llm.chat_model import NovelChatModel
    from demos.wiring import Services

__all__ = ["Answering", "ModelNames", "unforeseen"]

PERSONA_NAMES = ("charglm-3", "charglm-4", "characterglm", "emohaa")
BATCH_S = 0.002
LEAST_ANSWER = 16
"""Tokens that are left for the answer where the history is long."""

_log = logging.getLogger("novelscope.api")


class ModelNames:
    """The names that clients may ask for, and the model that each means."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @cached_property
    def all(self) -> dict[str, str]:
        """Specification by name: the service's own names for the default model, then what is installed."""
        default = self._services.settings.model
        specs = [spec for _, spec in self._services.model_choices()]
        bundled = {spec.removeprefix("builtin:"): spec for spec in specs if spec.startswith("builtin:")}
        return {**dict.fromkeys((*PERSONA_NAMES, "novelscope"), default), **bundled}

    def spec_of(self, name: str) -> str:
        """The specification behind a name.

        Raises:
            ApiFault: no model goes by it.
        """
        names = self.all
        if name not in names:
            raise ApiFault(
                Code.NO_SUCH_MODEL, f"模型不存在，请检查模型代码 / no such model; there are {', '.join(names)}"
            )
        return names[name]


class Answering:
    """Answers calls with the models of one server.

    Attributes:
        names: of the models.
        gate: through which every call goes.
    """

    def __init__(self, services: Services, gate: Gate, metrics: Metrics, *, log_prompts: bool = False) -> None:
        self._services, self._metrics, self._log_prompts = services, metrics, log_prompts
        self.names, self.gate = ModelNames(services), gate
        # As many threads as calls are let through, so that none ever waits for one.
        self._threads = ThreadPoolExecutor(max_workers=gate.slots, thread_name_prefix="novelscope-api")
        self._running: set[tuple[str, str]] = set()

    def check(self, call: Call) -> None:
        """See whether the call can be taken, before anything of its answer is sent.

        Raises:
            ApiFault: its model does not exist, its request_id is in use, or its queue is full.
        """
        self.names.spec_of(call.model)
        if (call.owner, call.request_id) in self._running:
            raise _running_already(call)
        self.gate.require_room(call.owner)

    def close(self) -> None:
        """Let the threads end; calls that are still answered finish their step."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def pieces(self, call: Call, *, is_patient: bool = False) -> AsyncGenerator[str | Answer, None]:
        """The answer's text as it is made, then the whole ``Answer``; empty pieces are signs of life.

        Args:
            is_patient: wait in line however long it is.

        Raises:
            ApiFault: whatever went wrong, before or after some text.
        """
        came_at = time.monotonic()
        with self._registered(call), self._counted(call) as ended:
            async with self.gate.slot(call.owner, is_patient=is_patient):
                self._metrics.queue_seconds.observe(time.monotonic() - came_at)
                steps = step_async(self._steps(call), batch_s=BATCH_S, worker=self._threads)
                async with aclosing(steps):
                    async for piece in steps:
                        if isinstance(piece, Answer):
                            ended.append(piece)
                        elif self._services.is_closing.is_set():
                            raise closing_fault()
                        yield piece

    async def whole(self, call: Call, *, is_patient: bool = False) -> Answer:
        """The answer, once all of it is there.

        Raises:
            ApiFault: as ``pieces``.
        """
        async with aclosing(self.pieces(call, is_patient=is_patient)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    return piece
        raise ApiFault(Code.INTERNAL, "服务内部错误 / the answer broke off without an end; ask again")

    def _steps(self, call: Call) -> Generator[str | Answer, None, None]:
        """The same, in a thread."""
        began = time.monotonic()
        said: list[str] = []
        with _faults(), self._services.indexer.give_way():
            model = self._services.chat_model(self.names.spec_of(call.model))
            prompt, sampling = _prompt(call, model)
            is_played = call.persona is not None or not model.is_chat
            backend = model.backend
            made = spoken(backend, prompt, sampling) if is_played else backend.stream(prompt, sampling)
            with closing(made) as pieces:  # type: ignore[type-var]  # made as a generator
                for piece in pieces:
                    if isinstance(piece, Finish):
                        yield Answer("".join(said), piece.reason, piece.input_tokens, piece.output_tokens)
                        return
                    if piece and not said:
                        self._metrics.first_token_seconds.observe(time.monotonic() - began)
                    if piece:
                        said.append(piece)
                    yield piece

    @contextmanager
    def _registered(self, call: Call) -> Iterator[None]:
        """Only one call of an owner goes by a request id at a time."""
        mark = (call.owner, call.request_id)
        if mark in self._running:
            raise _running_already(call)
        self._running.add(mark)
        try:
            yield
        finally:
            self._running.discard(mark)

    @contextmanager
    def _counted(self, call: Call) -> Iterator[list[Answer]]:
        """Counts and logs how the call ended: with the answer that was put into the list, or what else came of it."""
        answers: list[Answer] = []
        began, end = time.monotonic(), "left"
        try:
            yield answers
        except ApiFault as fault:
            end = f"code {fault.code}"
            self._metrics.refusals.labels(str(fault.code)).inc()
            raise
        finally:
            facts: dict[str, Any] = {"key": call.owner, "request_id": call.request_id, "model": call.model}
            for answer in answers:
                end = answer.finish_reason
                self._metrics.prompt_tokens.inc(answer.prompt_tokens)
                self._metrics.completion_tokens.inc(answer.completion_tokens)
                facts |= answer.usage
            if self._log_prompts:
                facts |= {"asked": call.to_json(), "answered": [answer.text for answer in answers]}
            self._metrics.answers.labels(end if answers or end == "left" else "failed").inc()
            _log.info("answer", extra={"end": end, "seconds": round(time.monotonic() - began, 4), **facts})


def _prompt(call: Call, model: NovelChatModel) -> tuple[Prompt, SamplingSettings]:
    """What is put before the model, within its context, and how it is to choose its words."""
    if call.persona is None:
        spoken = fitting_turns(call.turns, model=model, answer_tokens=LEAST_ANSWER)
    else:
        spoken = persona_prompt(call.persona, call.turns, model=model, answer_tokens=LEAST_ANSWER)
    sampling = SamplingSettings(
        max_new_tokens=call.max_tokens,
        temperature=call.temperature,
        top_p=call.top_p,
        seed=call.seed,
        stop=(*call.stop, *spoken.stop),
        repetition_penalty=repetition_penalty(model),
    )
    return spoken.prompt, sampling


@contextmanager
def _faults() -> Iterator[None]:
    """Every error in the words of the interface; what was not foreseen is named by a mark that the log has too."""
    try:
        yield
    except ApiFault:
        raise
    except PromptTooLong as wrong:
        raise ApiFault(Code.TOO_LONG, f"Prompt 超长 / {wrong}") from wrong
    except SettingsError as wrong:
        raise ApiFault(Code.INVALID, f"参数非法 / {wrong}") from wrong
    except Exception as wrong:
        raise unforeseen(wrong) from wrong


def unforeseen(wrong: Exception) -> ApiFault:
    """What a caller is told of an error of ours; the log has the rest, under the same mark."""
    mark = secrets.token_hex(6)
    # Errors of our own hold no text of a caller's; a library's may.
    _log.error("error %s: %s", mark, wrong if isinstance(wrong, NovelscopeError) else type(wrong).__name__,
               exc_info=not isinstance(wrong, NovelscopeError))  # fmt: skip
    return ApiFault(Code.INTERNAL, f"服务内部错误（{mark}） / the server failed; its log says why under {mark}")


def _running_already(call: Call) -> ApiFault:
    return ApiFault(
        Code.RUNNING_ALREADY, f"request_id 重复 / a request with the request_id {call.request_id!r} is already running"
    )
