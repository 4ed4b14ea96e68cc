"""Keys of the service, ``ID.SECRET``: made, listed, revoked and looked up.

A client signs tokens with its secret, so the service must know the secret itself and not a hash of it. It is therefore
kept nowhere: it is computed from the id, a salt in the database and a master secret in a file of its own. Whoever
steals the database has no key, and neither has whoever steals the master secret alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import string
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data.sqlite_file import SqliteFile
from core.errors import NovelscopeError
from demos.api.database import DatabaseError

__all__ = ["KeyInfo", "KeyNotFound", "KeyStore", "NewKey"]

MASTER_FILE, MASTER_BYTES = "master.secret", 32
# No dot, which parts id and secret; 43 of 62 letters hold 256 bits.
LETTERS, SECRET_LETTERS = string.ascii_letters + string.digits, 43
MOST_NAME_CHARS = 100


class KeyNotFound(NovelscopeError):
    """No key has that id."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it is listed: everything but the secret.

    Attributes:
        created_at, revoked_at: in seconds since 1970; the latter None while the key works.
    """

    id: str
    name: str
    created_at: float
    revoked_at: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "created_at": self.created_at, "revoked_at": self.revoked_at}


@dataclass(frozen=True, slots=True, repr=False)
class NewKey:
    """A key that was just made; the only time that its secret is shown."""

    info: KeyInfo
    key: str


class KeyStore:
    """The keys of one library folder.

    Args:
        folder: of the service; the master secret lies there, beside the database.
    """

    def __init__(self, database: SqliteFile, folder: Path) -> None:
        self._database = database
        self._master_path = folder / MASTER_FILE
        self._master: bytes | None = None

    def create(self, name: str) -> NewKey:
        """A new key, which works at once.

        Args:
            name: for the person who will see the list.

        Raises:
            DatabaseError: the folder cannot be written.
        """
        shown = " ".join(name.split())[:MOST_NAME_CHARS]
        info = KeyInfo(secrets.token_hex(16), shown, time.time(), None)
        salt = secrets.token_hex(16)
        key = f"{info.id}.{self._derived(info.id, salt)}"
        self._database.write(
            "INSERT INTO keys (id, name, salt, created_at) VALUES (?, ?, ?, ?)",
            (info.id, info.name, salt, info.created_at),
        )
        return NewKey(info, key)

    def list(self) -> list[KeyInfo]:
        """All keys, oldest first, revoked ones too."""
        rows = self._database.rows("SELECT id, name, created_at, revoked_at FROM keys ORDER BY created_at, id")
        return [KeyInfo(row["id"], row["name"], row["created_at"], row["revoked_at"]) for row in rows]

    def revoke(self, key_id: str) -> KeyInfo:
        """Make a key useless, from the next call on.

        Raises:
            KeyNotFound: there is none of that id.
        """
        self._database.write(
            "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (time.time(), key_id)
        )
        for info in self.list():
            if info.id == key_id:
                return info
        raise KeyNotFound(f"no key has the id {key_id!r}; list them with: novelscope key list")

    def has_any(self) -> bool:
        """Whether a key was ever made: from then on nobody is served without one."""
        return self._database.row("SELECT 1 FROM keys LIMIT 1") is not None

    def secret_of(self, key_id: str) -> str | None:
        """The secret of a key that works; None for any other id."""
        row = self._database.row("SELECT salt FROM keys WHERE id = ? AND revoked_at IS NULL", (key_id,))
        return None if row is None else self._derived(key_id, row["salt"])

    def decoy(self) -> str:
        """What an unknown id is checked against, so that it takes as long as a known one."""
        return self._derived("", "")

    def _derived(self, key_id: str, salt: str) -> str:
        number = int.from_bytes(hmac.digest(self._master_secret(), f"{key_id}\0{salt}".encode(), hashlib.sha256), "big")
        letters = []
        for _ in range(SECRET_LETTERS):
            number, letter = divmod(number, len(LETTERS))
            letters.append(LETTERS[letter])
        return "".join(letters)

    def _master_secret(self) -> bytes:
        if self._master is None:
            try:
                self._master = self._read_master()
            except OSError as wrong:
                raise DatabaseError(
                    f"{self._master_path} cannot be read or written ({wrong.strerror}); check the folder's rights"
                ) from wrong
        return self._master

    def _read_master(self) -> bytes:
        # Written aside and linked into place: of two processes that make it at once, both use the first one's.
        if not self._master_path.exists():
            partial = self._master_path.with_name(f".{MASTER_FILE}.{secrets.token_hex(8)}")
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(MASTER_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(partial, self._master_path)
            finally:
                partial.unlink(missing_ok=True)
        master = self._master_path.read_bytes()
        if len(master) != MASTER_BYTES:
            raise DatabaseError(
                f"{self._master_path} holds {len(master)} bytes, wanted {MASTER_BYTES}; put it back from a copy, or "
                "remove it and make new keys"
            )
        return master
