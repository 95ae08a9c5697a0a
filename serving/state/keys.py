"""Named keys with scopes, in a file that is read again when it changes.

The file holds the SHA-256 of each key, never the key, so the file gives no access. A key is 256 random bits, so a plain
hash is enough. It knows nothing of HTTP.
"""

import hashlib
import hmac
import logging
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.files import read_regular, write_whole
from breadcrumbs.serving.state.line_names import LineName

LOG = logging.getLogger("breadcrumbs.keys")
PREFIX = "crumb_"
"""Prefix of every key, so that scanners for leaked secrets recognise one."""

ACTOR = "key "
"""Before a key's name where a log says who did something."""
NO_KEY = "api"
"""Who did something, where a request came without a key."""

KeyScope = Literal["predict", "refit", "promote", "admin"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class KeysError(BreadcrumbsError):
    """A file of keys that cannot be used."""


class Key(BaseModel):
    """One key, without the key."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name
    """Its owner, as it appears in the activation log."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the key."""
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    """What it may do."""
    created: str
    """ISO 8601."""
    max_bytes: int | None = Field(default=None, ge=0)
    """Largest total size of the snapshots that it has uploaded, in bytes; absent means no limit."""
    max_jobs: int | None = Field(default=None, ge=0)
    """Largest number of its refits that wait or run; absent means no limit."""
    lines: tuple[LineName, ...] | None = Field(default=None, min_length=1)
    """Lines that it reaches; what names no line is about the first one. Absent means all lines."""

    @model_validator(mode="after")
    def _check_lines(self) -> Self:
        if self.lines is not None and "admin" in self.scopes:
            raise ValueError("a key with the scope admin reaches all lines; leave out either")
        return self

    def may(self, scope: KeyScope) -> bool:
        """Whether the key has a scope; `admin` has all."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def actor(self) -> str:
        """The actor in logs: `key NAME`."""
        return f"{ACTOR}{self.name}"


def owner_of(actor: str) -> str | None:
    """Return the name of an actor's key. None means that it has no key."""
    return actor.removeprefix(ACTOR) if actor.startswith(ACTOR) else None


class KeyFile(BaseModel):
    """`keys.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["breadcrumbs.keys/1"] = "breadcrumbs.keys/1"
    keys: tuple[Key, ...] = ()


def read(path: Path) -> KeyFile:
    """Read a file of keys.

    Raises:
        KeysError: it is missing, unreadable, or not a file of keys.
    """
    try:
        return KeyFile.model_validate_json(read_regular(path))
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}; `breadcrumbs keys add` makes a file of keys") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]  # the input could be a key by mistake
        place = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        raise KeysError(f"{path}: {place}{first['msg']}; `breadcrumbs keys add` makes a file of keys") from error


def add(
    path: Path, name: str, scopes: tuple[KeyScope, ...], max_bytes: int | None = None, max_jobs: int | None = None,
    lines: tuple[str, ...] | None = None,
) -> str:  # fmt: skip
    """Add a key to a file, which is created if missing, and return the key, which is stored nowhere.

    Args:
        path: of the file.
        name: of the key; what it uploads and starts belongs to that name.
        scopes: what it may do.
        max_bytes, max_jobs: its quota. None means no limit.
        lines: that it reaches. None means all.

    Raises:
        KeysError: there is a key of that name, or the name, the scopes, the quota or the lines are invalid.
    """
    known = read(path) if path.exists() else KeyFile()
    if any(key.name == name for key in known.keys):
        raise KeysError(f"{path}: there is a key named {name!r}; revoke it first")
    secret = PREFIX + secrets.token_urlsafe(32)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        key = Key(
            name=name, sha256=_digest(secret.encode()), scopes=scopes, created=now, max_bytes=max_bytes,
            max_jobs=max_jobs, lines=lines,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise KeysError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r:.80}") from error
    _write(path, KeyFile(keys=(*known.keys, key)))
    return secret


def revoke(path: Path, name: str) -> None:
    """Remove a key from a file; servers refuse it from their next request on.

    Raises:
        KeysError: there is none of that name.
    """
    known = read(path)
    left = tuple(key for key in known.keys if key.name != name)
    if len(left) == len(known.keys):
        raise KeysError(f"{path}: there is no key named {name!r:.80}")
    _write(path, KeyFile(keys=left))


def remedy(path: Path) -> str:
    """Return how to add a key to a file without keys."""
    return f"`breadcrumbs keys add NAME --scope predict --file {path}` makes one, which is accepted at once"


def _write(path: Path, file: KeyFile) -> None:
    write_whole(path, file.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


class Keys:
    """The keys of a running server.

    If the file becomes invalid, the previous keys stay valid until it is repaired, and the error is logged.

    Raises:
        KeysError: the file cannot be used at start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._state()
        self._keys = read(path).keys
        if not self._keys:
            LOG.warning("%s has no keys, so nobody can come in; %s", path, remedy(path))

    def find(self, secret: bytes) -> Key | None:
        """Return the key whose secret this is; every key is compared, each in constant time."""
        stamp = self._state()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = read(self._path).keys
                LOG.info("%s was read again: %d keys", self._path, len(self._keys))
            except KeysError:
                LOG.exception("the keys cannot be read; the previous ones stay valid")
        digest, found = _digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def _state(self) -> tuple[int, ...]:
        try:
            seen = os.stat(self._path)  # noqa: PTH116 - on the way of every request; Path.stat costs twice that
        except OSError:
            return ()
        return seen.st_mtime_ns, seen.st_size, seen.st_ino
