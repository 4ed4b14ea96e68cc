"""Why a call of the character service is refused: a code, a sentence, and how each generation of the interface says it.

The codes are those of the service whose clients are served here. Nothing here knows a request.
"""

from __future__ import annotations

import math
from typing import Any

from core.errors import NovelscopeError

__all__ = ["ApiFault", "Code", "v3_refusal", "v4_refusal"]


class Code:
    """The numbers that clients go by."""

    INTERNAL = 500
    NO_AUTHORIZATION, BAD_TOKEN, EXPIRED_TOKEN, BAD_SIGNATURE = 1001, 1002, 1003, 1004
    BAD_REQUEST, NO_SUCH_MODEL, WRONG_WAY, MISSING, INVALID = 1210, 1211, 1212, 1213, 1214
    NO_SUCH_API, FAILED, RUNNING_ALREADY, TOO_LONG = 1222, 1230, 1231, 1261
    TOO_MANY_AT_ONCE, TOO_OFTEN, OVERLOADED = 1302, 1303, 1305


# The status of a refused call in the newer interface. Clients repeat 408, 409, 429 and 5xx by themselves.
STATUSES = {
    Code.INTERNAL: 500,
    Code.NO_AUTHORIZATION: 401, Code.BAD_TOKEN: 401, Code.EXPIRED_TOKEN: 401, Code.BAD_SIGNATURE: 401,
    Code.NO_SUCH_API: 404, Code.FAILED: 500, Code.RUNNING_ALREADY: 409,
    Code.TOO_MANY_AT_ONCE: 429, Code.TOO_OFTEN: 429, Code.OVERLOADED: 503,
}  # fmt: skip


class ApiFault(NovelscopeError):
    """A call is refused, or broke off.

    Attributes:
        code: one of ``Code``.
        status: of the answer over HTTP, where the interface uses statuses.
        retry_after_s: after which asking again makes sense; None where it does not.
    """

    def __init__(
        self, code: int, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.status = status or STATUSES.get(code, 400)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """What the refusal adds to the answer's headers."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers


def v3_refusal(fault: ApiFault) -> dict[str, Any]:
    """The body of a refusal in the older interface, whose code is a number."""
    return {"code": fault.code, "msg": fault.message, "success": False}


def v4_refusal(fault: ApiFault) -> dict[str, Any]:
    """The body of a refusal in the newer interface, whose code is a string."""
    return {"error": {"code": str(fault.code), "message": fault.message}}
