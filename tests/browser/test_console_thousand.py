"""The console at a thousand classes: what is long is closed, cut or scrolled, also by keys, and everything fits."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from accessible import violations
from playwright.sync_api import Page, expect
from refits import finish
from running import make_settings, running
from tabs import Open, snapshot_file, tab_to
from tiny import tiny_head, write_bundle
from told import told

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.refit_report import RefitReport

COUNT, NEW = 1000, 200
NAMES = tuple(f"Plantae_Magnoliopsida_Rosales_Rosa_{c:05}" if c % 3 == 0 else f"species {c}" for c in range(COUNT))
"""Every third name has forty letters and no place to break it."""
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 740}}


@dataclass(frozen=True)
class Thousand:
    """A server, and the refit of its live head."""

    url: str
    job: str


def measured() -> RefitReport:
    """A refit's report on all of these classes, and on as many new ones as were ever added at once."""
    report = told(COUNT, 2)
    (one,) = report.new_classes
    more = [one.model_copy(update={"name": f"new species {place}"}) for place in range(NEW)]
    classes = report.classes.model_copy(update={"names": list(NAMES)})
    return report.model_copy(update={"classes": classes, "new_classes": more})


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Thousand]:
    """A server of a thousand classes with a snapshot of them all, whose live head a refit has made."""
    folder = tmp_path_factory.mktemp("thousand")
    plain = write_bundle(folder / "plain")
    counts = tuple(1 + 900 // (c + 1) for c in range(COUNT))
    manifest = plain.manifest.model_copy(update={"classes": NAMES, "train_counts": counts})
    backbone = (plain.folder / "backbone.onnx").read_bytes()
    files = {"backbone.onnx": backbone, "head.onnx": heads.to_onnx(tiny_head(1, NAMES))}
    bundle = bundles.write(folder / "bundle", manifest, files)
    with running(make_settings(bundle, folder / "store")) as client:
        client.put("/v1/snapshots", content=snapshot_file(bundle, NAMES, (2,) * COUNT)).raise_for_status()
        job = finish(client)["id"]
        (folder / "store" / "refits" / job / "report.json").write_text(measured().model_dump_json())
        yield Thousand(str(client.base_url), job)


def views(page: Page, served: Thousand) -> Iterator[str]:
    """Go through the parts that have a line for each class."""
    page.goto(f"{served.url}/#classes")
    expect(page.locator("tbody tr")).to_have_count(100)
    page.get_by_label(f"More of {NAMES[0]}").click()
    expect(page.get_by_role("button", name=f"Remove {NAMES[0]}")).to_be_visible()
    yield "classes"
    page.goto(f"{served.url}/#heads")
    page.get_by_role("button", name="Roll back to head 1").click()
    expect(page.get_by_role("dialog").get_by_role("table")).to_be_visible()
    yield "heads, a question"
    page.keyboard.press("Escape")
    page.goto(f"{served.url}/#refit")
    page.get_by_role("button", name=f"Result of refit {served.job}").click()
    expect(page.locator(".job")).to_contain_text("The gate says yes.")
    yield "refit, with a result"
    page.goto(f"{served.url}/#teach")
    page.get_by_label("Class of all these photos").fill(NAMES[3])
    yield "teach"


@pytest.mark.parametrize("size", SIZES)
def test_everything_fits_and_can_be_used(opened: Open, thousand: Thousand, size: str) -> None:
    """Nothing is beyond the screen's edge, axe finds nothing among a hundred classes, no part draws a thousand."""
    page = opened(viewport=SIZES[size], color_scheme="light")
    for view in views(page, thousand):
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], view
        assert page.get_by_role("row").count() <= 150, view
        assert (size, view) != ("desktop", "classes") or violations(page) == []


def test_a_long_table_is_opened_and_scrolled_by_keys(page: Page, thousand: Thousand) -> None:
    """It is closed at first; open, it takes the focus, and End shows its last row."""
    page.goto(f"{thousand.url}/#refit")
    expect(page.locator(".snapshot")).to_be_visible()
    tab_to(page, f"Rows of each class ({COUNT:,})")
    page.keyboard.press("Enter")
    expect(page.locator(".snapshot").get_by_role("row")).to_have_count(COUNT + 1)
    tab_to(page, "Rows of each class in ")
    page.keyboard.press("End")
    last = page.locator(".snapshot tbody tr").last
    expect(last).to_be_in_viewport()
    expect(last).to_contain_text(NAMES[-1])
    expect(page.locator(".snapshot thead th").first).to_be_in_viewport()


def test_many_new_classes_are_told_closed(page: Page, thousand: Thousand) -> None:
    """How many, and each when somebody looks."""
    page.goto(f"{thousand.url}/#refit")
    page.get_by_role("button", name=f"Result of refit {thousand.job}").click()
    shown = page.locator(".job").get_by_role("table", name="New classes")
    expect(page.locator(".job")).to_contain_text(f"{NEW} new classes")
    expect(shown).to_be_hidden()
    page.get_by_text(f"{NEW} new classes").press("Enter")
    expect(shown.get_by_role("row")).to_have_count(NEW + 1)


def test_all_classes_are_shown_when_somebody_asks(page: Page, thousand: Thousand) -> None:
    """By a key; each is closed, and the last one can be opened by a key, too."""
    page.goto(f"{thousand.url}/#classes")
    page.get_by_role("button", name=f"Show all {COUNT:,}").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(COUNT)
    expect(page.locator("tbody details[open]")).to_have_count(0)
    page.get_by_label(f"More of {NAMES[-1]}").press("Enter")
    expect(page.get_by_role("button", name=f"Remove {NAMES[-1]}")).to_be_in_viewport()
