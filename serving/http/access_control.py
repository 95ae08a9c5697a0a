"""Access control: by the request's host, the web page that it came from, and its key.

What is not named here needs `admin`. It is ASGI middleware around everything that answers, so that no route and no file
is left out. It knows nothing of what a request is about.
"""

import base64
import re
from collections.abc import Collection, Sequence

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.forwarded import FORWARDED_HOST
from breadcrumbs.serving.http.hosts import Hosts
from breadcrumbs.serving.http.origins import ANY
from breadcrumbs.serving.http.shares import Held
from breadcrumbs.serving.refusals import Forbidden, Refused, Unauthorized
from breadcrumbs.serving.setting_names import both
from breadcrumbs.serving.state.keys import NO_KEY, Key, Keys, KeyScope

SAFE = ("GET", "HEAD", "OPTIONS")

RIGHTS: tuple[tuple[str, str, KeyScope | None], ...] = (
    (
        r"GET|HEAD",
        r"/|/healthz|/readyz|/docs(/oauth2-redirect)?|/openapi\.json|/static-offline-docs/.*|/console/.*",
        None,
    ),
    (r"GET|HEAD", r"/v2/health/(live|ready)", None),
    (r"OPTIONS", r".*", None),
    (r"POST", r"/v1/heads/(rollback|[^/]+/activate)", "promote"),
    (r"GET|HEAD|POST|PUT|DELETE", r"/v1/(refit|snapshots)(/.*)?", "refit"),
    (r"PUT|DELETE", r"/v1/priors/[^/]+", "promote"),
    (r"POST|DELETE", r"/v1/trials(/[^/]+)?", "promote"),
    (r"PUT|DELETE", r"/v1/lines/[^/]+", "promote"),
    (r"GET|HEAD", r"/v1/((heads|lines|priors|trials|samples)(/.*)?|activations)|/metrics", "predict"),
    (r"POST", r"/v1/(predict|features|labels)", "predict"),
    (r"GET|HEAD|DELETE", r"/v1/(answers|examples)(/.*)?", "predict"),
    (r"GET|HEAD", r"/v1/(queue|classes)", "predict"),
    (r"GET|HEAD", r"/v2/?|/v2/models/.*", "predict"),
    (r"GET|HEAD|POST", r"/label-studio(/.*)?", "predict"),
    (r"POST", r"/v2/models/.*/infer|/v2/repository/index", "predict"),
)
"""Method, path, and the scope that a key needs. None means that no key is needed. The first match counts."""

OF_ALL_LINES = re.compile(r"[A-Z]+ (/v1/trials(/.*)?|/metrics)|(PUT|DELETE) /v1/(lines|priors)/.*")
"""Method and path of what is not for a key that is bound to lines."""
BASIC = re.compile(r"/label-studio(/|$)")
"""Paths where a key may also come as a password."""
_RIGHTS = tuple((re.compile(method), re.compile(path), right) for method, path, right in RIGHTS)


def needed(method: str, path: str) -> KeyScope | None:
    """Return the scope that a request needs. None means that it needs no key."""
    for methods, paths, right in _RIGHTS:
        if paths.fullmatch(path) and methods.fullmatch(method):
            return right
    return "admin"


class AccessControl:
    """The middleware.

    Args:
        app: what it guards.
        keys: the API keys. None means that everybody has access.
        hosts: the names that the server answers to.
        origins: origins of other sites whose pages may send requests, as `https://lab.example`; `*` means all.
        held: counts the bodies in memory.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, hosts: Hosts, origins: Sequence[str], held: Held) -> None:
        self._app = app
        self._held = held
        self._keys = keys
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._any = ANY in origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "http":
            try:
                self._check(scope, dict(scope["headers"]))
            except Refused as error:
                await errors.known(Request(scope), error)(scope, receive, send)
                return
            scope["breadcrumbs.held"] = self._held
        try:
            await self._app(scope, receive, send)
        finally:
            self._held.give(scope)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        self._hosts.check(scope)
        host = headers.get(b"host", b"").decode("latin-1")
        if FORWARDED_HOST in scope:
            host = scope[FORWARDED_HOST]
            self._hosts.expect(host)
        if b"origin" in headers and scope["method"] not in SAFE:
            origin = headers[b"origin"].decode("latin-1")
            own = origin.partition("://")[2].lower() == host.lower()
            if not (own or self._any or origin in self._origins):
                raise Forbidden(
                    f"a web page of {origin!r:.80} may not ask this server, which was asked as {host!r:.80}; the "
                    f"setting {both('origins')} lets it; a proxy passes the name on with "
                    f"proxy_set_header Host $http_host"
                )
        scope["breadcrumbs.key"] = None
        right = None if self._keys is None else needed(scope["method"], scope["path"])
        if self._keys is None or right is None:
            return
        secret = _secret(headers.get(b"authorization", b""), scope["path"])
        if not secret:
            raise Unauthorized("a key is needed: send the header Authorization: Bearer KEY")
        key = self._keys.find(secret)
        if key is None:
            raise Unauthorized("the key is not known here; it may have been revoked")
        scope["breadcrumbs.key"] = key
        if not key.may(right):
            raise Forbidden(f"the key {key.name!r} may {', '.join(key.scopes)}; this takes {right}")
        if key.lines is not None and OF_ALL_LINES.fullmatch(f"{scope['method']} {scope['path']}"):
            raise Forbidden(f"the key {key.name!r} is bound to {_named(key.lines)}; this is of all lines")


def _secret(authorization: bytes, path: str) -> bytes:
    """The key that a header has; empty: it has none.

    Label Studio gives its ML backends a user's name and a password: that password is the key.
    """
    kind, _, rest = authorization.partition(b" ")
    if kind.lower() == b"bearer":
        return rest.strip()
    if kind.lower() == b"basic" and BASIC.match(path):
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


def actor(request: Request) -> str:
    """Return the actor for the activation log: `key NAME`, or `api` without a key."""
    key = key_of(request)
    return NO_KEY if key is None else key.actor


def key_of(request: Request) -> Key | None:
    """Return the key of a request. None means that it has no key."""
    key: Key | None = request.scope["breadcrumbs.key"]
    return key


def _named(lines: Sequence[str]) -> str:
    return f"the line{'s' if len(lines) > 1 else ''} {', '.join(lines)}"


def lines_of(request: Request) -> tuple[str, ...] | None:
    """Return the lines that a request's key is bound to. None means that it reaches all."""
    key = key_of(request)
    return None if key is None else key.lines


def check_line(request: Request, line: str) -> None:
    """Refuse a line that the request's key is not bound to.

    Raises:
        Forbidden: it is bound to others.
    """
    key = key_of(request)
    if key is not None and key.lines is not None and line not in key.lines:
        raise Forbidden(f"the key {key.name!r} is bound to {_named(key.lines)}; this is of the line {line!r:.80}")


def check_owner(request: Request, owners: Collection[str], what: str) -> None:
    """Refuse to cancel or delete what only other keys made.

    Args:
        request: its key must be an owner.
        owners: names of the keys that made it; empty if it was made without a key.
        what: the thing, for the error message.

    Raises:
        Forbidden: the server has keys, and this one neither made it nor has `admin`.
    """
    key = key_of(request)
    if key is None or key.may("admin") or key.name in owners:
        return
    whose = f"belongs to {', '.join(sorted(owners))}" if owners else "belongs to no key"
    raise Forbidden(f"{what} {whose}, not to the key {key.name!r}; its owner or a key with admin may do this")


def check_right(request: Request, right: KeyScope, what: str) -> None:
    """Refuse what needs another scope than the route itself.

    Raises:
        Forbidden: the server has keys, and this one lacks the scope.
    """
    key = key_of(request)
    if key is not None and not key.may(right):
        raise Forbidden(f"the key {key.name!r} may {', '.join(key.scopes)}; {what} takes {right}")
