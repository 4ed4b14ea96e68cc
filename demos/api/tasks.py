"""Asynchronous tasks on disk: taken, run, answered once, and read by their owner as often as wanted.

A task that a dead process left under way runs once more, and fails if that process dies too. An answer is written
together with the task's end, in one transaction, so no task is answered twice. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Literal

from core.data.sqlite_file import SqliteFile
from demos.api.answers import Answer
from demos.api.calls import Call, new_id
from demos.api.faults import ApiFault, Code

__all__ = ["CANCELLED", "Task", "TaskStore"]

State = Literal["queued", "running", "done", "failed"]
MOST_RUNS = 2
CANCELLED = "任务已取消 / the task was cancelled"
INTERRUPTED = "服务两次中断，任务未能完成 / the server ended twice while the task was under way; submit it again"
COLUMNS = "number, id, owner, request_id, model, call, state, runs, answer, failure, created_at"


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its owner may see it.

    Attributes:
        failure: why it failed, in a sentence; None while it has not.
        created_at: in seconds since 1970.
    """

    id: str
    owner: str
    request_id: str
    model: str
    state: State
    answer: Answer | None
    failure: str | None
    created_at: float
    call: Call

    @property
    def status(self) -> str:
        """The state as clients know it."""
        return {"done": "SUCCESS", "failed": "FAIL"}.get(self.state, "PROCESSING")


class TaskStore:
    """The tasks of one server; only the process that serves may run them.

    Args:
        most_open: tasks of one owner that may be open; a further one is refused.
    """

    def __init__(self, database: SqliteFile, *, most_open: int) -> None:
        self._database, self._most_open = database, most_open

    def submit(self, call: Call, idempotency_key: str | None = None) -> Task:
        """Take a task, or find the one that was taken under the same idempotency key.

        Raises:
            ApiFault: the owner has too many open ones, or used the key for another call.
        """
        with self._database.transaction():
            if idempotency_key is not None and (kept := self.kept(call, idempotency_key)) is not None:
                if kept[1] is None:
                    raise other_use()
                return self.get(kept[1], call.owner)
            open_tasks = self._database.row(
                "SELECT COUNT(*) AS n FROM tasks WHERE owner = ? AND state IN ('queued', 'running')", (call.owner,)
            )
            if open_tasks is not None and open_tasks["n"] >= self._most_open:
                message = (
                    f"并发过高，已有 {open_tasks['n']} 个任务未完成 / {open_tasks['n']} tasks of this key are open"
                )
                raise ApiFault(Code.TOO_MANY_AT_ONCE, message, retry_after_s=10)
            task_id = f"{new_id()}{new_id()}"
            self._database.write(
                "INSERT INTO tasks (id, owner, request_id, model, call, state, created_at) "
                "VALUES (?, ?, ?, ?, ?, 'queued', ?)",
                (task_id, call.owner, call.request_id, call.model, call.to_json(), time.time()),
            )
            if idempotency_key is not None:
                self._keep(call, idempotency_key, None, task_id)
            return self.get(task_id, call.owner)

    def get(self, task_id: str, owner: str) -> Task:
        """The task, if it is this owner's.

        Raises:
            ApiFault: there is none of that id, or it is another's; the two look the same.
        """
        row = self._database.row(f"SELECT {COLUMNS} FROM tasks WHERE id = ? AND owner = ?", (task_id, owner))
        if row is None:
            raise ApiFault(Code.NO_SUCH_API, "任务不存在 / no task has that id")
        return _task_of(row)

    def cancel(self, task_id: str, owner: str) -> Task:
        """End a task that is not done, as failed; one that is done stays so.

        Raises:
            ApiFault: as ``get``.
        """
        self._database.write(
            "UPDATE tasks SET state = 'failed', failure = ?, ended_at = ? "
            "WHERE id = ? AND owner = ? AND state IN ('queued', 'running')",
            (CANCELLED, time.time(), task_id, owner),
        )
        return self.get(task_id, owner)

    def claim(self, after_owner: str) -> Task | None:
        """Begin the next task: the oldest of the owner whose turn it is.

        Args:
            after_owner: whose task was begun before this one.
        """
        with self._database.transaction():
            row = self._database.row(
                f"SELECT {COLUMNS} FROM tasks WHERE state = 'queued' ORDER BY owner <= ?, owner, number LIMIT 1",
                (after_owner,),
            )
            if row is None:
                return None
            self._database.write("UPDATE tasks SET state = 'running', runs = runs + 1 WHERE id = ?", (row["id"],))
            return _task_of(row)

    def finish(self, task: Task, answer: Answer | None, failure: str | None = None) -> bool:
        """End a task that is under way; whether it still was."""
        state = "failed" if answer is None else "done"
        text = None if answer is None else answer.to_json()
        changed = self._database.write(
            "UPDATE tasks SET state = ?, answer = ?, failure = ?, ended_at = ? WHERE id = ? AND state = 'running'",
            (state, text, failure, time.time(), task.id),
        )
        return bool(changed)

    def put_back(self, task: Task) -> None:
        """Leave a task that is under way for the next server, as if it had not been begun."""
        self._database.write(
            "UPDATE tasks SET state = 'queued', runs = runs - 1 WHERE id = ? AND state = 'running'", (task.id,)
        )

    def recover(self) -> tuple[int, int]:
        """Deal with what a dead process left under way; tasks that run again, and tasks that failed by it."""
        with self._database.transaction():
            failed = self._database.write(
                "UPDATE tasks SET state = 'failed', failure = ?, ended_at = ? WHERE state = 'running' AND runs >= ?",
                (INTERRUPTED, time.time(), MOST_RUNS),
            )
            return self._database.write("UPDATE tasks SET state = 'queued' WHERE state = 'running'"), failed

    def count_open(self) -> int:
        """Tasks that are not done."""
        row = self._database.row("SELECT COUNT(*) AS n FROM tasks WHERE state IN ('queued', 'running')")
        return 0 if row is None else int(row["n"])

    def forget_older_than(self, kept_s: float) -> int:
        """Remove tasks that ended so long ago, and kept answers of that age; how many tasks."""
        before = time.time() - kept_s
        with self._database.transaction():
            self._database.write("DELETE FROM answers WHERE created_at < ?", (before,))
            return self._database.write("DELETE FROM tasks WHERE ended_at < ?", (before,))

    # Answers that are asked for again ------------------------------------------------------------------------------

    def kept(self, call: Call, idempotency_key: str) -> tuple[Answer | None, str | None] | None:
        """The answer, or the task's id, that the same call under the same key was given; None for a new key.

        Raises:
            ApiFault: the key was used for another call.
        """
        row = self._database.row(
            "SELECT call_hash, answer, task_id FROM answers WHERE owner = ? AND key_hash = ?",
            (call.owner, _hashed(idempotency_key)),
        )
        if row is None:
            return None
        if row["call_hash"] != call.fingerprint():
            raise other_use()
        return (None if row["answer"] is None else Answer.from_json(row["answer"])), row["task_id"]

    def keep(self, call: Call, idempotency_key: str, answer: Answer) -> None:
        """Keep an answer for whoever asks again; the first one stays."""
        self._keep(call, idempotency_key, answer.to_json(), None)

    def _keep(self, call: Call, idempotency_key: str, answer: str | None, task_id: str | None) -> None:
        self._database.write(
            "INSERT OR IGNORE INTO answers (owner, key_hash, call_hash, answer, task_id, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (call.owner, _hashed(idempotency_key), call.fingerprint(), answer, task_id, time.time()),
        )


def other_use() -> ApiFault:
    """An idempotency key that was used before, for something else."""
    return ApiFault(
        Code.RUNNING_ALREADY,
        "Idempotency-Key 已用于另一请求 / the Idempotency-Key was used for another request; take a new one",
    )


def _task_of(row) -> Task:  # type: ignore[no-untyped-def]  # a row of SQLite
    answer = None if row["answer"] is None else Answer.from_json(row["answer"])
    return Task(
        row["id"], row["owner"], row["request_id"], row["model"], row["state"], answer, row["failure"],
        row["created_at"], Call.from_json(row["call"]),
    )  # fmt: skip


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
