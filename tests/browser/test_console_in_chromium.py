"""The console in a real browser, end to end: an image, a refit, heads, a key, a server that goes and comes back."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from running import make_settings, running
from servers import serving
from test_refit import finish
from tiny import picture, png, tiny_snapshot, write_bundle
from told import told

from models import bundle as bundles
from models import snapshot as snapshots
from models.bundle import Bundle
from serving import keys
from training import refit_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run",
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab; an error of a script, or a breach of the policy, fails the test."""
    tab = browser.new_page(viewport={"width": 1000, "height": 800})
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    yield tab
    tab.close()
    assert wrong == []


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with two samples, and a class whose name is a script."""
    plain = write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    samples = {f"samples/{label}-0.png": png(picture(label)) for label in range(2)}
    return bundles.write(plain.folder, plain.manifest, files | samples)


def serve(bundle: Bundle, store: Path, **more: Any) -> Any:
    """A server whose refits are quick."""
    return running(make_settings(bundle, store, **more))


def test_an_image_is_answered_and_two_heads_compared(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """From a sample, from a file, with bars, version and timing; then with a second head beside it."""
    image = tmp_path / "tree.png"
    image.write_bytes(png(picture(5)))
    with serve(bundle, tmp_path / "store") as client:
        finish(client, {"spec": {"activate": "never"}})
        page.goto(str(client.base_url))
        expect(page.get_by_label("Key")).to_be_hidden()
        page.get_by_role("button", name="sample: elm").click()
        expect(page.locator(".answer")).to_have_count(1)
        expect(page.locator(".answer").first).to_contain_text("Head 1")
        page.locator("input[type=file]").set_input_files(image)
        expect(page.locator(".answer")).to_have_count(2)
        expect(page.locator(".answer .bars").first.locator("dt")).to_have_count(3)
        expect(page.locator(".answer").first).to_contain_text("decoded in")
        page.reload()
        page.get_by_role("combobox", name="Compare with").select_option("2")
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer h3")).to_have_text(["Head 1", "Head 2"])


def test_a_bad_file_is_told_in_the_servers_words(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """And nothing is shown in its place."""
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"junk")
    with serve(bundle, tmp_path / "store") as client:
        page.goto(str(client.base_url))
        page.locator("input[type=file]").set_input_files(junk)
        expect(page.get_by_role("alert")).to_contain_text("not a JPEG, PNG or WebP image")
        expect(page.locator(".answer")).to_have_count(0)


def test_upload_refit_activate_and_rollback(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """What the checks found is shown before the start; the verdict after it; going live asks first."""
    file = tmp_path / "march.safetensors"
    file.write_bytes(snapshots.to_bytes(tiny_snapshot(bundle.backbone_digest, 5)))
    with serve(bundle, tmp_path / "store") as client:
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files(file)
        expect(page.locator(".check").first).to_contain_text("12 rows of 3 classes, epoch 5")
        page.get_by_label("Go live").select_option("never")
        page.get_by_role("button", name="Start").click()
        expect(page.locator(".card")).to_contain_text("The gate says yes.", timeout=20_000)
        page.get_by_role("link", name="Heads").click()
        expect(page.locator("tr.live")).to_contain_text("● live")
        page.get_by_role("button", name="Activate").click()
        expect(page.get_by_role("dialog")).to_contain_text("Make head 2 live instead of head 1?")
        page.get_by_label("Reason, kept in the log").fill("seen in the browser")
        page.get_by_role("button", name="Do it").click()
        expect(page.locator("tr.live td").first).to_have_text("2")
        expect(page.get_by_text("seen in the browser")).to_be_visible()
        page.get_by_role("button", name="Roll back").click()
        page.keyboard.press("Escape")
        expect(page.locator("tr.live td").first).to_have_text("2")
        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("button", name="Do it").click()
        expect(page.locator("tr.live td").first).to_have_text("1")
        assert client.get("/v1/heads").json()["live"] == 1


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "with a key"])
def test_the_whole_report_is_shown(page: Page, bundle: Bundle, tmp_path: Path, guarded: bool) -> None:
    """With its pictures and its style, also where a key is needed; in a frame in which no script runs."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "me", ("admin",))
    with serve(bundle, tmp_path / "store", **({"keys": path} if guarded else {})) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        job = finish(client, {"spec": {"activate": "never"}})["id"]
        (tmp_path / "store" / "refits" / job / "report.html").write_bytes(refit_page.build(told()))
        page.goto(f"{client.base_url}/console/report.html#{job}")
        if guarded:
            expect(page.get_by_role("alert")).to_contain_text("a key is needed")
            page.get_by_role("link", name="Back to the refits").click()
            page.get_by_label("Key").fill(secret)
            page.keyboard.press("Enter")
        else:
            page.goto(f"{client.base_url}#refit")
            page.get_by_role("button", name="Report").click()
        page.get_by_role("link", name="The whole report").click()
        inside = page.frame_locator("#report")
        expect(inside.get_by_role("heading", level=1)).to_be_visible()
        expect(inside.locator("img")).to_have_count(len(refit_page.PICTURES))
        widths = inside.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert min(widths) > 100
        assert inside.locator("main").evaluate("main => getComputedStyle(main).maxWidth") == "832px"
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save it").click()
        assert saved.value.path().read_bytes() == refit_page.build(told())
        page.get_by_role("link", name="Back to the refits").click()
        expect(page.locator(".card")).to_contain_text("The gate says yes.")


def test_a_report_can_do_nothing(browser: Browser, bundle: Bundle, tmp_path: Path) -> None:
    """A page of a child that is not trusted: its script does not run, and it cannot reach the console."""
    evil = "<h1>hello</h1><script>parent.document.title='PWNED'</script><img src=x onerror=\"top.location='/healthz'\">"
    with serve(bundle, tmp_path / "store") as client:
        job = finish(client, {"spec": {"activate": "never"}})["id"]
        (tmp_path / "store" / "refits" / job / "report.html").write_text(evil)
        tab = browser.new_page()
        tab.goto(f"{client.base_url}/console/report.html#{job}")
        expect(tab.frame_locator("#report").get_by_role("heading")).to_have_text("hello")
        assert tab.title() == "Refit report – Breadcrumbs"
        assert tab.url.endswith(job)
        tab.goto(f"{client.base_url}/console/report.html#nothing")
        expect(tab.get_by_role("alert")).to_contain_text("there is no refit")
        tab.close()


def test_the_load_is_drawn(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """With the numbers of /metrics."""
    with serve(bundle, tmp_path / "store") as client:
        page.goto(f"{client.base_url}#health")
        expect(page.locator(".tile")).to_have_count(7)
        expect(page.get_by_text(re.compile("Head 1 on cpu"))).to_be_visible()


def test_a_key_is_asked_for_and_kept_in_the_tab(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """A wrong one is told; the right one lets in, also after a reload, and is in no storage that outlives the tab."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "me", ("admin",))
    with serve(bundle, tmp_path / "store", keys=path) as client:
        page.goto(str(client.base_url))
        expect(page.get_by_role("alert")).to_contain_text("a key is needed")
        for word, text in (("wrong", "the key is not known here"), (secret, "")):
            page.get_by_label("Key").fill(word)
            page.keyboard.press("Enter")
            if text:
                expect(page.get_by_role("alert")).to_contain_text(text)
        expect(page.get_by_role("button", name="sample: oak")).to_be_visible()
        page.reload()
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer")).to_have_count(1)
        assert page.evaluate("localStorage.length") == 0
        assert page.evaluate("document.cookie") == ""


def test_a_server_that_goes_and_comes_back(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """It is told, and the page goes on by itself."""
    with serving(bundle, tmp_path) as first:
        port = first.address[1]
        page.goto(str(first.client.base_url))
        expect(page.get_by_role("button", name="sample: oak")).to_be_visible()
    page.get_by_role("button", name="sample: oak").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer. Trying again")
    with serving(bundle, tmp_path, port=port):
        expect(page.get_by_role("alert")).to_be_hidden(timeout=20_000)
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer")).to_have_count(1)


def test_by_keyboard_alone_on_a_phone(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """Tab reaches the samples, Enter asks; nothing is wider than the screen."""
    page.set_viewport_size({"width": 360, "height": 740})
    with serve(bundle, tmp_path / "store") as client:
        page.goto(str(client.base_url))
        expect(page.get_by_role("button", name="sample: oak")).to_be_visible()
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.querySelector('img')?.alt") == "sample: oak":
                break
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_have_count(1)
        for part in ("try", "heads", "refit", "health"):
            page.goto(f"{client.base_url}#{part}")
            expect(page.locator("h2").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, part


def test_a_script_in_a_class_name_is_text(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """Where snapshots are listed, it is shown as it is written, and does nothing."""
    name = "<img src=x onerror=document.title='PWNED'>"
    drawn = tiny_snapshot(bundle.backbone_digest, 5)
    evil = snapshots.Snapshot(drawn.features, drawn.labels, (name, "elm", "oak"), drawn.backbone, 5)
    with serve(bundle, tmp_path / "store") as client:
        client.put("/v1/snapshots", content=snapshots.to_bytes(evil))
        page.goto(f"{client.base_url}#refit")
        expect(page.locator(".check").first).to_contain_text(name)
        assert page.title() == "Breadcrumbs"
