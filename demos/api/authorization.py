"""Who calls: a raw key, or a token that was signed with one, in any of the four spellings that clients send.

A token is a JWT by HS256 whose ``exp`` counts milliseconds. What is said to a caller never tells whether the id or the
secret was wrong, and the time it takes does not tell either. Nothing here reads a request's body.
"""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass
from typing import Any

from demos.api.faults import ApiFault, Code
from demos.api.keys import KeyStore

__all__ = ["LOCAL", "Caller", "authorized"]

LOCAL = "local"
"""The owner of everything that is asked without a key, on a machine where no key was ever made."""
SKEW_MS = 60_000
MOST_HEADER_CHARS = 8192
# PyJWT reads times in seconds, and would find a token of ours good for tens of thousands of years.
UNCHECKED: Any = {f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss", "sub", "jti")}
BEARER = re.compile(r"\s*bearer\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        owner: id of the key: tasks, queues and limits belong to it.
    """

    owner: str


def authorized(header: str | None, keys: KeyStore) -> Caller:
    """The caller that an ``Authorization`` header proves to be.

    Raises:
        ApiFault: of a code from 1001 to 1004.
    """
    if not keys.has_any():
        return Caller(LOCAL)
    given = BEARER.sub("", header or "", count=1).strip()
    if not given:
        raise ApiFault(
            Code.NO_AUTHORIZATION, "Header 中未收到 Authorization 参数 / the Authorization header is missing"
        )
    if len(given) > MOST_HEADER_CHARS or not given.isascii():
        raise _malformed()
    dots = given.count(".")
    if dots == 1:
        return _by_key(given, keys)
    if dots == 2:
        return _by_token(given, keys)
    raise _malformed()


def _by_key(given: str, keys: KeyStore) -> Caller:
    key_id, _, secret = given.partition(".")
    known = keys.secret_of(key_id)
    is_right = hmac.compare_digest((known or keys.decoy()).encode(), secret.encode())
    if known is None or not is_right:
        raise _malformed()
    return Caller(key_id)


def _by_token(token: str, keys: KeyStore) -> Caller:
    import jwt

    try:
        claimed = jwt.decode(token, options={"verify_signature": False})
        key_id = claimed["api_key"]
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError) as wrong:
        raise _malformed() from wrong
    known = keys.secret_of(key_id) if isinstance(key_id, str) else None
    try:
        payload = jwt.decode(
            token,
            known or keys.decoy(),
            algorithms=["HS256"],
            options=UNCHECKED,
        )
    except jwt.InvalidSignatureError as wrong:
        raise _unverified() from wrong
    except (jwt.PyJWTError, TypeError, ValueError) as wrong:
        raise _malformed() from wrong
    if known is None:
        raise _unverified()
    expires_ms = payload.get("exp")
    if isinstance(expires_ms, bool) or not isinstance(expires_ms, (int, float)) or expires_ms != expires_ms:
        raise _malformed()
    if expires_ms + SKEW_MS < time.time() * 1000:
        raise ApiFault(Code.EXPIRED_TOKEN, "Authorization Token 已过期 / the token has expired")
    return Caller(str(key_id))


def _malformed() -> ApiFault:
    return ApiFault(Code.BAD_TOKEN, "Authorization Token 非法，请检查 API Key / the key or token is not valid here")


def _unverified() -> ApiFault:
    return ApiFault(Code.BAD_SIGNATURE, "Authorization Token 验证失败 / the token's signature does not verify")
