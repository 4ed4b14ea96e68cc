"""A call of the character service in one form, whichever interface it came through and however it is answered.

A call is a value: it can be written down and read again, which is how a task outlives the process that took it. Nothing
here knows a model.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.data.dialogues import Turn
from core.persona.prompting import Persona
from demos.api.faults import ApiFault, Code
from demos.api.persona_bodies import MOST_CHARS, Meta, V3Body, V4Body

__all__ = ["DEFAULT_MAX_TOKENS", "Call", "call_of_v3", "call_of_v4", "new_id"]

DEFAULT_MAX_TOKENS = 512
V3_TEMPERATURE, V3_TOP_P = 0.95, 0.7
V4_TEMPERATURE, V4_TOP_P = 0.95, 0.7
GREEDY_BELOW = 0.01
"""Clients turn 0 into this; drawing at such a temperature is not drawing any more."""
LEAST_TOP_P = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked for.

    Attributes:
        owner: id of the key that asks.
        model: by the name that the client used.
        persona: who is to speak; None where the messages alone say it.
        seed: None draws anew each time.
        has_given_id: whether the client named the request itself.
    """

    owner: str
    model: str
    request_id: str
    turns: tuple[Turn, ...]
    persona: Persona | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None = None
    stop: tuple[str, ...] = ()
    has_given_id: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Call:
        """The call that ``to_json`` wrote."""
        value = json.loads(text)
        value["turns"] = tuple(Turn(**turn) for turn in value["turns"])
        if (persona := value["persona"]) is not None:
            value["persona"] = Persona(**{**persona, "sayings": tuple(persona["sayings"])})
        value["stop"] = tuple(value["stop"])
        return cls(**value)

    def fingerprint(self) -> str:
        """The same for two calls that ask for the same, whoever numbered them."""
        same = replace(self, request_id="", has_given_id=False)
        return hashlib.sha256(same.to_json().encode()).hexdigest()


def call_of_v3(body: V3Body, model: str, owner: str) -> Call:
    """The call that a body of the older interface makes.

    Raises:
        ApiFault: it holds too much text, or nothing that a person said.
    """
    temperature = V3_TEMPERATURE if body.temperature is None else body.temperature
    return Call(
        owner=owner,
        model=model,
        request_id=body.request_id or new_id(),
        has_given_id=body.request_id is not None,
        turns=_turns([(message.role, message.content) for message in body.prompt], "prompt"),
        persona=_persona(body.meta),
        temperature=0.0 if temperature <= GREEDY_BELOW else temperature,
        top_p=V3_TOP_P if body.top_p is None else max(LEAST_TOP_P, body.top_p),
        max_tokens=DEFAULT_MAX_TOKENS,
    )


def call_of_v4(body: V4Body, owner: str) -> Call:
    """The call that a body of the newer interface makes.

    Raises:
        ApiFault: it holds too much text, or nothing that a person said.
    """
    temperature = V4_TEMPERATURE if body.temperature is None else body.temperature
    is_greedy = body.do_sample is False or temperature <= GREEDY_BELOW
    return Call(
        owner=owner,
        model=body.model,
        request_id=body.request_id or new_id(),
        has_given_id=body.request_id is not None,
        turns=_turns([(message.role, message.content or "") for message in body.messages], "messages"),
        persona=_persona(body.meta),
        temperature=0.0 if is_greedy else temperature,
        top_p=V4_TOP_P if body.top_p is None else max(LEAST_TOP_P, body.top_p),
        max_tokens=body.max_completion_tokens or body.max_tokens or DEFAULT_MAX_TOKENS,
        # The engine's seeds are not negative.
        seed=None if body.seed is None else body.seed % 2**63,
        stop=tuple(body.stop or ()),
    )


def new_id() -> str:
    """A new name for a request or a task, of digits as clients know them."""
    return str(secrets.randbelow(9 * 10**18) + 10**18)


def _turns(messages: list[tuple[str, str]], field: str) -> tuple[Turn, ...]:
    turns = []
    num_chars = sum(len(text) for _, text in messages)
    if num_chars > MOST_CHARS:
        raise ApiFault(
            Code.TOO_LONG, f"Prompt 超长 / {field} holds {num_chars:,} characters, at most {MOST_CHARS:,} may"
        )
    for number, (role, text) in enumerate(messages):
        if role == "user" and not text.strip():
            raise ApiFault(Code.INVALID, f"{field}.{number}.content 参数非法 / {field}.{number}.content is empty")
        # What a tool said is read like what a person said: this model calls none.
        known = {"tool": "user", "developer": "system"}.get(role, role)
        if text:
            turns.append(Turn(known, text))
    if not any(turn.role == "user" for turn in turns):
        raise ApiFault(
            Code.INVALID, f"{field} 参数非法 / {field} holds no message of a user; the last one should be one"
        )
    return tuple(turns)


def _persona(meta: Meta | None) -> Persona | None:
    if meta is None:
        return None
    given: dict[str, Any] = {"bot_name": meta.bot_name, "bot_info": meta.bot_info, "user_info": meta.user_info or ""}
    if meta.user_name and meta.user_name.strip():
        given["user_name"] = meta.user_name.strip()
    return Persona(**given)
