"""A real browser: Chromium without a window, fresh tabs in which nothing may go wrong, and what it is shown."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from patience import PATIENCE
from playwright.sync_api import Browser, Page, expect, sync_playwright
from running import Serve, make_settings, running
from tabs import Open
from tiny import picture, png, write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle

expect.set_options(timeout=1000 * PATIENCE)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is slow, and skipped where there is no Chromium."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window; of one file, since its event loop would be in the way of other tests'."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """A way to open fresh tabs, by keywords of a browser's context.

    An error of a script, or a breach of the policy, fails the test.
    """
    wrong: list[str] = []
    with contextlib.ExitStack() as tabs:

        def one(**more: Any) -> Page:
            tab = browser.new_page(**({"viewport": {"width": 1180, "height": 800}} | more))
            tab.set_default_timeout(1000 * PATIENCE)
            tabs.callback(tab.close)
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
            return tab

        yield one
    assert wrong == []


@pytest.fixture
def page(opened: Open) -> Page:
    """A fresh tab on a desktop, in light."""
    return opened(color_scheme="light")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with two samples, measured."""
    plain = write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    samples = {f"samples/{label}-0.png": png(picture(label)) for label in range(2)}
    measured = {"balanced": {"many": 0.75, "medium": 0.5, "few": None, "all": 0.625}}
    manifest = plain.manifest.model_copy(update={"metrics": measured})
    return bundles.write(plain.folder, manifest, files | samples)


@pytest.fixture
def serve(bundle: Bundle, tmp_path: Path) -> Serve:
    """A way to start servers on this test's own store; words go to the fake child of refits, keywords are settings."""

    def start(*mode: str, **more: Any) -> contextlib.AbstractContextManager[httpx.Client]:
        return running(make_settings(bundle, tmp_path / "store", **more), *mode)

    return start
