"""The mapping from errors to HTTP."""

import asyncio
import importlib
import pkgutil
import re

import httpx
import pytest
from fastapi import FastAPI

import breadcrumbs
from breadcrumbs.models import errors as tree_page
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.access_log import AccessLog
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.route_names import route_names

HEAVY = {"breadcrumbs.training.data.embedded.build"}  # a script


def tree() -> set[type[BreadcrumbsError]]:
    """Every error class of the package."""
    for module in pkgutil.walk_packages(breadcrumbs.__path__, "breadcrumbs."):
        if module.name not in HEAVY:
            importlib.import_module(module.name)
    found: set[type[BreadcrumbsError]] = set()
    waiting = [BreadcrumbsError]
    while waiting:
        found.add(waiting[-1])
        waiting.extend(cls for cls in waiting.pop().__subclasses__() if cls not in found)
    return {cls for cls in found if cls.__module__.partition(".")[0] == "breadcrumbs"}


def test_every_error_has_a_status_and_a_place_in_the_drawing() -> None:
    """A new error class is mapped and drawn, or this fails; and nothing is drawn that is not there."""
    classes = tree()
    line = r"[├└]── (\w+) .* ((?:models|training|serving|breadcrumbs)\.[\w.]+)$"
    drawn = dict(re.findall(line, tree_page.__doc__ or "", re.MULTILINE))
    own = {cls.__name__: cls.__module__ for cls in classes if cls is not BreadcrumbsError}

    assert {
        name: re.sub(r"^breadcrumbs\.(?=models|training|serving)", "", place) for name, place in own.items()
    } == drawn
    for cls in classes:
        code, kind = errors.status(cls("x"))
        assert 400 <= code <= 507
        assert code != 500
        assert re.fullmatch(r"[a-z_]+", kind)


def test_only_the_servers_own_errors_are_mapped_by_name() -> None:
    """What only the trainer raises falls to its parent: it cannot reach HTTP."""
    mapped = {cls.__module__ for cls in errors.STATUS}

    assert not any(module.startswith("breadcrumbs.training") for module in mapped)


def test_what_nobody_foresaw_is_a_500_in_the_same_shape(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets the request's id, the log gets the reason, and neither gets the other."""
    app = FastAPI()
    errors.install(app)
    app.add_middleware(AccessLog, metrics=Metrics(), name_of=route_names(app.routes), lines="none")

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("secret words")

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/bug", headers={"X-Request-ID": "r1"})

    answer = asyncio.run(main())

    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
    assert answer.headers["x-request-id"] == "r1"
    assert "secret words" not in answer.text
    assert "request r1 failed" in caplog.text
    assert "secret words" in caplog.text
