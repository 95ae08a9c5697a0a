"""The images of tasks: in a data URL, or fetched from the one Label Studio that the operator has named.

A client names the URL, so nothing else is fetched: no other host, no path but those of uploaded and imported files, and
no redirect is followed. It knows nothing of what an image is.
"""

import asyncio
import re
from pathlib import Path

import httpx
from pydantic import BaseModel, ValidationError

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.http.base64_text import from_base64
from breadcrumbs.serving.refusals import BadRequest, TooLarge
from breadcrumbs.serving.setting_names import both

SECONDS = 30.0
"""Of an image at most, from the first byte that is sent to the last that comes."""
PATHS = ("data/", "storage-data/")
"""Where Label Studio has files, below its address."""
JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
"""A personal access token, which is exchanged for one that expires; other tokens are sent as they are."""
TOKEN = re.compile(r"[!-~]{1,4096}")


class LabelStudioError(BreadcrumbsError):
    """Label Studio does not give an image."""


class TokenError(BreadcrumbsError):
    """A file that has no token of Label Studio."""


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        TokenError: it cannot be read, or what it has is no token.
    """
    try:
        text = path.read_bytes()[:8192].decode("latin-1").strip()
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror}; expected a file with a token of Label Studio") from error
    if not TOKEN.fullmatch(text):
        raise TokenError(f"{path}: expected a token of Label Studio, one line of printable ASCII and nothing else")
    return text


class LabelStudio:
    """One Label Studio.

    Args:
        address: its URL.
        token: of a user who may see the images. None means that none is sent.
        limit: bytes of an image at most.
    """

    def __init__(self, address: str, token: str | None, limit: int) -> None:
        self._home = httpx.URL(address.rstrip("/") + "/")
        self._token, self._limit = token, limit
        self._access: str | None = None
        self._http = httpx.AsyncClient(
            timeout=SECONDS, follow_redirects=False, headers={"Accept-Encoding": "identity"}, trust_env=False
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def image(self, url: object) -> bytes:
        """Return the bytes of a task's image.

        Raises:
            BadRequest: it is neither a data URL nor one of a file of this Label Studio.
            TooLarge: it has too many bytes.
            LabelStudioError: Label Studio does not give it.
        """
        if not isinstance(url, str) or not url:
            raise BadRequest(f"expected the URL of an image, got {url!r:.80}")
        if url[:5].lower() == "data:":
            return self._from_data(url)
        place = self.place(url)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._fetch(place)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise LabelStudioError(f"{place.path!r:.200} cannot be fetched from {self._home}: {why:.200}") from error
        except TimeoutError as error:
            raise LabelStudioError(f"{place.path!r:.200} did not come from {self._home} in {SECONDS:g} s") from error

    def place(self, url: str) -> httpx.URL:
        """Return where the file of a URL is.

        Raises:
            BadRequest: it is not a file of this Label Studio.
        """
        expected = f"expected a data URL, or a file below {self._home}{PATHS[0]}: nothing else is fetched"
        if url.startswith("/") and not url.startswith("//"):
            begun = url.startswith(self._home.path)
            url = str(self._home) + url.removeprefix(self._home.path if begun else "/")
        try:
            found = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BadRequest(f"image {url!r:.120}: {error}; {expected}") from error
        below = tuple(self._home.path + path for path in PATHS)
        parts = found.path.replace("\\", "/").split("/")
        own = (found.scheme, found.host, found.port) == (self._home.scheme, self._home.host, self._home.port)
        if not own or found.userinfo or ".." in parts or not found.path.startswith(below):
            raise BadRequest(f"image {url!r:.120}: {expected}")
        return found

    def _from_data(self, url: str) -> bytes:
        try:
            data = from_base64(url)
        except ValueError as error:
            raise BadRequest(f"image: {error}") from error
        if len(data) > self._limit:
            raise TooLarge(f"an image has {len(data)} bytes; the limit is {self._limit}")
        return data

    async def _fetch(self, place: httpx.URL) -> bytes:
        for again in (False, True):
            headers = await self._authorization(anew=again)
            async with self._http.stream("GET", place, headers=headers) as answer:
                if answer.status_code == 401 and self._access is not None and not again:
                    continue  # the token that was exchanged has expired
                if answer.status_code != 200:
                    raise LabelStudioError(
                        f"Label Studio answered {answer.status_code} for {place.path!r:.200}; expected the image: "
                        f"{both('label_studio_token')} is the token of a user who may see it"
                    )
                return await self._read(answer, place)
        raise LabelStudioError(f"{place.path!r:.200} did not come; this is a bug")

    async def _read(self, answer: httpx.Response, place: httpx.URL) -> bytes:
        data = bytearray()
        async for piece in answer.aiter_bytes():
            data += piece
            if len(data) > self._limit:
                raise TooLarge(f"{place.path!r:.200} has more than {self._limit} bytes, which is the limit of an image")
        return bytes(data)

    async def _authorization(self, *, anew: bool) -> dict[str, str]:
        if self._token is None:
            return {}
        if not JWT.fullmatch(self._token):
            return {"Authorization": f"Token {self._token}"}
        if self._access is None or anew:
            answer = await self._http.post(self._home.join("api/token/refresh/"), json={"refresh": self._token})
            access = _access(answer.content) if answer.status_code == 200 else None
            if access is None or not TOKEN.fullmatch(access):
                raise LabelStudioError(
                    f"Label Studio answered {answer.status_code} to the token of {both('label_studio_token')}; make "
                    f"another one"
                )
            self._access = access
        return {"Authorization": f"Bearer {self._access}"}


class _Refreshed(BaseModel):
    access: str


def _access(data: bytes) -> str | None:
    try:
        return _Refreshed.model_validate_json(data).access
    except ValidationError:
        return None
