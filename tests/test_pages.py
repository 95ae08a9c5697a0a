"""README and the pages of `docs/`, compared with the code; the server's own pages are in `serving/test_docs.py`."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listed_commands import commands
from pydantic import BaseModel

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import refit_report as reports
from breadcrumbs.models.bundle import Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.refits.job import Kept
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord, Lineage
from breadcrumbs.serving.state.priors import PriorRecord
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord
from breadcrumbs.serving.trials.counts import Counts
from breadcrumbs.serving.trials.trial import End, Start
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REPORT = [value for value in vars(reports).values() if isinstance(value, type) and value.__module__ == reports.__name__]
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md")
    if path.exists()
]
PAGES += sorted(DOCS.rglob("*.md"))
TEXT = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}

FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def code(text: str) -> list[str]:
    """The lines of a page's fenced blocks, and its code spans."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return lines + SPAN.findall(prose(text))


def broken_links(page: Path, text: str) -> list[str]:
    """The relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    files = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    return [name for name in files if name and not (page.parent / name).exists()]


def make_targets(text: str) -> set[str]:
    """The targets that a page tells its reader to make."""
    pattern = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*make ([a-z-]+)")
    return {found[1] for piece in code(text) if (found := pattern.match(piece))}


def source_files(text: str) -> set[str]:
    """The Python files that a page names in code spans."""
    return {
        name
        for name in SPAN.findall(prose(text))
        if re.fullmatch(r"(models|training|serving|breadcrumbs)/[\w/]+\.py", name)
    }


def rows(page: str) -> dict[str, list[str]]:
    """The cells after the first of every table row whose first cell is one code span."""
    found = re.findall(r"^\| `([^`]+)` \| (.*) \|$", TEXT[page], re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in found}


def shown(value: Any) -> str:
    """A default as the pages write it."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file."""
    parsed: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return parsed


def section(page: str, start: str) -> str:
    """A page's text from one heading to the next of the same depth or higher."""
    depth = start.count("#")
    found = re.search(rf"^{re.escape(start)}\n(.*?)(?=^#{{1,{depth}}} |\Z)", TEXT[page], re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {start!r}"
    return found[1]


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_training_flag_has_its_row(name: str) -> None:
    """Flag, default and meaning, in the words of the code."""
    field = TrainConfig.model_fields[name]
    assert field.description, f"{name} has no text"

    assert rows("docs/training.md").get(f"--{name.replace('_', '-')}") == [
        shown(field.default),
        " ".join(field.description.split()),
    ]


def test_no_training_flag_is_documented_that_is_not_there() -> None:
    """A row without a field is as wrong as a field without a row."""
    flags = {name for name in rows("docs/training.md") if name.startswith("--")}

    assert flags == {f"--{name.replace('_', '-')}" for name in TrainConfig.model_fields}


def test_every_refit_setting_has_its_row() -> None:
    """Name and default of every field, a meaning beside it, and no row without a field."""
    text = section("docs/method.md", "## Refit settings")
    table = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (.+) \|$", text, re.MULTILINE)

    assert {name: default for name, default, _ in table} == {
        name: shown(field.default) for name, field in RefitSpec.model_fields.items()
    }
    assert all(meaning.strip() for _, _, meaning in table)


def test_every_recipe_has_its_row() -> None:
    """A recipe is a claim, and the page holds it."""
    assert set(RECIPES) <= set(rows("docs/training.md"))


def test_every_command_is_on_a_page() -> None:
    """As a reader would type it, in the README or `docs/`."""
    pieces = [piece for name, text in TEXT.items() if name.startswith(("README", "docs")) for piece in code(text)]

    missing = {name for name in commands() if not any(re.search(rf"\bbreadcrumbs {name}\b", p) for p in pieces)}
    assert missing == set()


def test_no_command_is_on_a_page_that_is_not_there() -> None:
    """`breadcrumbs WORD` in code is a command."""
    pieces = [piece for text in TEXT.values() for piece in code(text)]
    typed = {found[1] for piece in pieces if (found := re.match(r"(?:\$ )?breadcrumbs ([a-z]+)", piece))}

    assert typed
    assert typed <= commands()


@pytest.mark.parametrize("name", TEXT)
def test_no_relative_link_is_broken(name: str) -> None:
    """Every file that a page links to is there."""
    assert broken_links(ROOT / name, TEXT[name]) == []


def test_every_picture_is_small_and_on_a_page() -> None:
    """In the README or `docs/`; 100 kB at most."""
    pictures = list((ROOT / "docs" / "img").iterdir())
    pages = "".join(text for name, text in TEXT.items() if name.startswith(("README", "docs")))

    assert len(pictures) > 6
    assert [path.name for path in pictures if f"img/{path.name})" not in pages] == []
    assert [path.name for path in pictures if path.stat().st_size > 100_000] == []


def test_every_make_target_on_a_page_exists() -> None:
    """And CONTRIBUTING.md lists them all."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set().union(*(make_targets(text) for text in TEXT.values()))

    assert named <= targets
    assert make_targets(TEXT["CONTRIBUTING.md"]) == targets


@pytest.mark.parametrize("name", TEXT)
def test_every_source_file_on_a_page_exists(name: str) -> None:
    """A file that was renamed is renamed on the pages too."""
    assert {path for path in source_files(TEXT[name]) if not (ROOT / path).is_file()} == set()


def test_every_test_file_on_a_page_exists() -> None:
    """Wherever it lies: many pages name a test without its folder."""
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = {(page, name) for page, text in TEXT.items() for name in re.findall(r"\btest_\w+\.py\b", text)}

    assert {(page, name) for page, name in named if name not in there} == set()
    assert len(named) > 50


def test_every_source_file_has_its_line_in_the_architecture() -> None:
    """One line a file, empty package files left out."""
    found = {
        str(path.relative_to(ROOT))
        for floor in ("models", "training", "serving", "breadcrumbs")
        for path in (ROOT / floor).rglob("*.py")
        if path.name != "__init__.py" and not (floor == "breadcrumbs" and (ROOT / floor / path.parts[-2]).is_symlink())
    }

    assert source_files(TEXT["docs/architecture.md"]) == found


def test_the_file_tree_is_true() -> None:
    """Every file and folder that the README's tree names is there, and no folder is left out."""
    block = FENCE.findall(section("README.md", "## Files"))[0]
    named: list[Path] = []
    named_folder = ""
    for line in block.splitlines():
        name = line.split()[0]
        named.append(Path(named_folder, name) if line.startswith("  ") else Path(name))
        named_folder = named_folder if line.startswith("  ") else name
    floors = ("models", "training", "serving")
    inner = {Path(floor, path.name) for floor in floors for path in (ROOT / floor).iterdir() if path.is_dir()}
    folders = {Path(name) for name in (*floors, "deploy", "docs", "tests", "benchmarks")} | inner

    assert [path for path in named if not (ROOT / path).exists()] == []
    assert {path for path in folders if path.name != "__pycache__"} <= set(named)
    assert len(named) > 30


def numbers(text: str) -> set[int]:
    """The numbers in `1 … 3, 7`."""
    ends = [[int(end) for end in part.split("…")] for part in text.split(",")]
    return {number for first, *last in ends for number in range(first, (last or [first])[0] + 1)}


@pytest.mark.parametrize(("page", "least"), [("docs/reliability.md", 50), ("SECURITY.md", 16)])
def test_every_promise_names_a_test_that_is_there(page: str, least: int) -> None:
    """In the last cell of its row: files or folders of tests, or [numbers] that the tests of attacks bear."""
    lines = re.findall(r"^\| (?!---|promise|threat|item)(.+) \|$", TEXT[page], re.MULTILINE)
    heads = re.findall(r'"""\[([\d, …]+)\]', (ROOT / "tests/attacks/test_attacks.py").read_text())
    attacks = set().union(*map(numbers, heads))
    assert len(lines) >= least
    for line in lines:
        promise, *_, proof = line.split(" | ")
        named = [ROOT / name for name in re.findall(r"`(tests/[\w/.]+)", proof)]
        proofs = [path for path in named if path.is_dir() or path.name.startswith("test_")]
        cited = set().union(*map(numbers, re.findall(r"\[([\d, ]+)\]", proof)))

        assert proofs or cited, f"{promise}: no test is named"
        assert [path for path in named if not path.exists()] == [], promise
        assert cited <= attacks, promise


def test_every_part_of_a_snapshot_is_specified() -> None:
    """The tensors and metadata keys of a file with everything in it, no more and no fewer."""
    values = np.zeros((2, 3), np.float32)
    labels, ids = np.array([0, 1]), np.array([1, 2])
    full = Snapshot(
        values, labels, ("a", "b"), "0" * 64, 1, ids, values, values[:, 0], dataset="0" * 64, lineage="mapped"
    )
    written = header(snapshots.to_bytes(full))
    keys = set(written.pop("__metadata__"))

    page = section("docs/formats.md", "## Snapshot").partition("A snapshot of 2 rows")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == keys | set(written)
    assert f"`{snapshots.FORMAT}`" in page


def test_every_part_of_a_head_is_specified() -> None:
    """The tensors and metadata keys of `head.safetensors`, with a prior of its own."""
    zeros = np.zeros(2, np.float32)
    head = LinearHead(np.zeros((2, 3), np.float32), zeros, ("a", "b"), zeros)
    written = header(heads.to_bytes(head))
    keys = set(written.pop("__metadata__"))

    page = section("docs/formats.md", "### head.safetensors")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == keys | set(written)
    assert f"`{heads.FORMAT}`" in page


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        (Manifest, "## Bundle"),
        (Preprocess, "## Bundle"),
        (bundles.Lineage, "## Bundle"),
        *((model, "## Refit report") for model in REPORT),
        (HeadRecord, "### heads/"),
        (Lineage, "### heads/"),
        (SnapshotRecord, "### snapshots/"),
        (PriorRecord, "### priors/"),
        (Kept, "### refits/"),
        (Activation, "### activations/"),
        (Start, "### trials/"),
        (End, "### trials/"),
        (Counts, "### trials/"),
    ],
)
def test_every_field_of_a_record_is_specified(model: type[BaseModel], heading: str) -> None:
    """In the section of its file."""
    spans = set(SPAN.findall(section("docs/formats.md", heading)))

    assert set(model.model_fields) <= spans


def test_the_checks_of_the_pages_find_what_is_wrong(tmp_path: Path) -> None:
    """A page with one of each mistake, and the same words where they are no mistake."""
    text = "[gone](gone.md) [net](https://x.invalid/y) `make nonsense`, make sense of `models/gone.py`\n"
    text += "```\n$ X=1 make tea\n[no link](in-code.md)\n```\n"

    assert broken_links(tmp_path / "page.md", text) == ["gone.md"]
    assert make_targets(text) == {"nonsense", "tea"}
    assert source_files(text) == {"models/gone.py"}
