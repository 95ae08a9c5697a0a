"""The documentation as a site: built as `make docs` builds it, and what it then consists of."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "overview",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "benchmarks/results.md": "results",
}


class Parsed(HTMLParser):
    """A page's links, the files that it loads, and the names in it that links may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {given[key] or "" for key in ("id", "name") if key in given}
        address = given.get("href") or given.get("src")
        if address:
            (self.links if tag == "a" else self.loaded).append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error: missing pages, broken links, unknown anchors."""
    place = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Parsed]:
    """Every page of the site."""
    return {path: Parsed(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_in_the_site(site: Path) -> None:
    """Those of `docs/`, and those that lie outside."""
    docs = [path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")]
    names = [*(path.with_name("index") if path.name == "README" else path for path in docs), *OUTSIDE.values()]

    assert [str(name) for name in names if not (site / f"{name}.html").is_file()] == []


def test_every_link_arrives(site: Path, pages: dict[Path, Parsed]) -> None:
    """At a file of the site, and at a place in it."""
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            names = pages[there].names if there in pages else {""}
            if not there.is_file() or (there in pages and unquote(parts.fragment) not in names | {""}):
                wrong.append((str(path.relative_to(site)), link))

    assert wrong == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Parsed]) -> None:
    """Neither fonts nor scripts nor pictures: the site works without network."""
    loaded = {address for page in pages.values() for address in page.loaded}

    assert loaded
    assert {address for address in loaded if urlsplit(address).netloc} == set()


def test_the_search_finds_settings_routes_and_docstrings(site: Path) -> None:
    """Its index has the text of every part of the documentation."""
    index = json.loads((site / "search" / "search_index.json").read_text())["docs"]

    for words, page in [
        ("max-batch", "serving.html"),
        ("GET /v1/activations", "api.html"),
        ("Upload a snapshot in any format", "python.html"),
        ("Crumb", "glossary.html"),
        ("Upgrading", "changelog.html"),
    ]:
        assert any(words in one["title"] + one["text"] for one in index if one["location"].startswith(page)), words


def test_every_decision_is_listed() -> None:
    """On the page that has no place for them in the site's navigation."""
    folder = ROOT / "docs" / "decisions"
    text = (folder / "README.md").read_text()

    assert [path.name for path in folder.glob("0*.md") if f"({path.name})" not in text] == []


def test_the_first_hour_names_what_is_there() -> None:
    """The line to change is in its file, and the test to run is a folder of tests."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## The first hour")[2].partition("\n## ")[0]
    file, line = "serving/console/try.js", '"Try it"'
    tests = "tests/serving/console"

    assert f"`{file}`" in text
    assert f"`{line}`" in text
    assert line in (ROOT / file).read_text()
    assert f"pytest {tests}" in text
    assert list((ROOT / tests).glob("test_*.py"))
