"""A report as a file in a browser: its table is searched and sorted, everybody can read it, and it can be printed."""

from pathlib import Path

import pytest
from accessible import violations
from playwright.sync_api import Page, expect
from tabs import Open
from told import told

from breadcrumbs.training.report import refit_page

LONG = "Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa_"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The reports of ten and of 240 classes; every third name has sixty characters."""
    found = {}
    for count in (10, 240):
        report = told(count, 6)
        names = [f"{LONG}{c:03}" if c % 3 == 0 else f"species {c}" for c in range(count)]
        report = report.model_copy(update={"classes": report.classes.model_copy(update={"names": names})})
        found[count] = tmp_path_factory.mktemp("report") / "report.html"
        found[count].write_bytes(refit_page.build(report))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_everybody_can_read_it(opened: Open, files: dict[int, Path], width: int, scheme: str) -> None:
    """Axe finds nothing, and nothing is beyond the screen's edge, on a desktop and on a phone, in light and dark."""
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(files[10].as_uri())

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []


def test_the_table_of_classes_is_searched(page: Page, files: dict[int, Path]) -> None:
    """By a part of a name, whatever its case; also a class that the wanted one is taken for."""
    page.goto(files[240].as_uri())
    rows = page.locator("table.listed tbody tr")
    expect(rows).to_have_count(240)
    page.get_by_label("Find a class").fill("ROSA_120")
    shown = rows.locator("visible=true")
    expect(page.get_by_role("status")).to_contain_text(" of 240 rows")

    assert all("Rosa_120" in row for row in shown.all_inner_texts())
    assert f"{LONG}120" in shown.locator("td:first-child bdi").all_inner_texts()
    page.get_by_label("Find a class").fill("")
    expect(shown).to_have_count(240)


def test_the_table_of_classes_is_sorted_by_keys(page: Page, files: dict[int, Path]) -> None:
    """Numbers by their size, names as words, groups from many to few; what is missing comes last."""
    page.goto(files[240].as_uri())
    heads = page.locator("table.listed thead th")
    titles = heads.all_inner_texts()
    for title in ("training images", "recall, candidate", "change, points"):
        place = titles.index(title)
        cells = page.locator(f"table.listed tbody td:nth-child({place + 1})")
        for order in ("ascending", "descending"):
            heads.nth(place).get_by_role("button").press("Enter")
            expect(heads.nth(place)).to_have_attribute("aria-sort", order)
            texts = [text.split()[0].rstrip(";").replace(",", "") for text in cells.all_inner_texts()]
            values = [float(text.replace("−", "-")) for text in texts if text != "–"]

            assert texts[len(values) :] == ["–"] * (len(texts) - len(values))
            assert values == sorted(values, reverse=order == "descending")
    heads.first.get_by_role("button").press("Space")
    expect(heads.first).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("[aria-sort]")).to_have_count(1)
    expect(page.locator("table.listed tbody tr").nth(80).locator("td").first).to_contain_text("species 1")


def test_the_table_of_classes_is_scrolled_by_keys(page: Page, files: dict[int, Path]) -> None:
    """It takes the focus, and End and Home show its ends."""
    page.goto(files[240].as_uri())
    for key, there in (("End", "scrollTop + one.clientHeight >= one.scrollHeight - 1"), ("Home", "scrollTop === 0")):
        page.locator(".tall").press(key)
        page.wait_for_function(f"() => {{ const one = document.querySelector('.tall'); return one.{there}; }}")


def test_without_scripts_the_table_is_whole(opened: Open, files: dict[int, Path]) -> None:
    """In its own order, with nothing on it that does nothing."""
    page = opened(java_script_enabled=False)
    page.goto(files[10].as_uri())

    expect(page.locator("table.listed tbody tr")).to_have_count(10)
    expect(page.locator("button, input")).to_have_count(0)


def test_on_paper_no_row_is_hidden(page: Page, files: dict[int, Path]) -> None:
    """The table is as long as it is, and in light, whatever the screen is."""
    page.emulate_media(media="print", color_scheme="dark")
    page.goto(files[240].as_uri())
    table = page.locator(".tall").evaluate("one => [one.scrollHeight, one.clientHeight]")

    assert table[0] <= table[1] + 1
    assert page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.get_by_label("Find a class")).to_be_hidden()
    assert page.pdf().startswith(b"%PDF")
