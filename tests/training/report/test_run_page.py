"""The report is one safe page that needs nothing beside it, whatever the run has or lacks."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page
from PIL import Image

from breadcrumbs.models.groups import groups
from breadcrumbs.training.metrics import Interval, evaluate, intervals, wilson
from breadcrumbs.training.report import html
from breadcrumbs.training.report.run_page import PICTURES, Story, page, report, write

NAMES = ("<script>alert(1)</script>", "$x_{1}$", "a & b", 'say "hi"', "plain")


def story(classes: int = 5, per_class: int = 4, heads: tuple[str, ...] = ("joint", "balanced")) -> Story:
    """A run of three epochs with everything in it; class 0 is the largest."""
    rng = np.random.default_rng(0)
    counts = np.maximum(400 // (np.arange(classes) + 1), 2).astype(np.int64)
    own = groups(counts.tolist(), "A")
    labels = np.repeat(np.arange(classes), per_class)
    logits = {h: (rng.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels]) for h in heads}
    metrics = {h: evaluate(values, labels, own).as_dict() for h, values in logits.items()}
    history: list[dict[str, Any]] = [
        {"epoch": e, "joint_loss": 2 / e, "balanced_loss": 3 / e, "seconds": 1.5, **metrics}
        | {"drift": [None, *[0.1 * e] * (classes - 1)], "crumbs": [0.5] * classes}
        for e in (1, 2, 3)
    ]
    names = NAMES if classes == len(NAMES) else tuple(f"class {i}" for i in range(classes))
    return Story(
        title="A <b>run</b>", classes=names, counts=counts, groups=own, convention="A",
        config={"epochs": 3, "data": "/home/somebody/photos", "note": "<i>", "nested": {"a": ["/srv/b", "c"]}},
        history=history, labels=labels, logits=logits, metrics=metrics,
        intervals={h: intervals(values, labels, own) for h, values in logits.items()},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report of the whole story is written."""
    return tmp_path_factory.mktemp("run") / "report"


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    """The report of the whole story, which is also written."""
    return write(folder, story())


def test_every_picture_is_there_as_svg_and_png_and_in_the_page(files: dict[str, bytes]) -> None:
    """The page carries the very bytes of the SVG files, each with words for who cannot see it."""
    images = [attributes for tag, attributes in Page(files["index.html"].decode()).tags if tag == "img"]

    assert set(files) == {"index.html"} | {f"{p.name}.{kind}" for p in PICTURES for kind in ("svg", "png")}
    assert [base64.b64decode((i["src"] or "").removeprefix("data:image/svg+xml;base64,")) for i in images] == [
        files[f"{p.name}.svg"] for p in PICTURES
    ]
    assert all(i["alt"] for i in images)


def test_every_png_opens(files: dict[str, bytes]) -> None:
    """As an image that Pillow reads, without the name of a program or a date."""
    images = [Image.open(io.BytesIO(data)) for name, data in files.items() if name.endswith(".png")]

    assert all(image.width > 500 and image.convert("RGB").getextrema() != ((255, 255),) * 3 for image in images)
    assert all(not {"Software", "Creation Time"} & set(image.info) for image in images)


def test_the_page_refers_to_nothing(files: dict[str, bytes]) -> None:
    """One script, inside and named by its digest; no link, no style or image from elsewhere, also in its pictures."""
    page = Page(files["index.html"].decode())
    pictures = b"".join(data for name, data in files.items() if name.endswith(".svg"))

    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "a"}
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert html.SCRIPT in page.words
    assert html.SCRIPT_SOURCE in html.POLICY
    assert all((v or "").startswith("data:") for _, a in page.tags for k, v in a.items() if k in ("src", "href"))
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not re.search(r"url\(|@import|https?://", files["index.html"].decode())
    assert all(target.startswith((b"#", b"data:")) for target in re.findall(rb'href="([^"]*)', pictures))
    assert b"<script" not in pictures
    assert b"DOCTYPE" not in pictures


def test_names_and_settings_are_text(files: dict[str, bytes]) -> None:
    """What looks like a tag or a formula is shown as it is written."""
    text = files["index.html"].decode()
    words = Page(text).words

    assert text.count("<script") == 1
    assert all(name in words for name in NAMES)
    assert "A <b>run</b>" in words
    assert "<i>" in words


def test_no_path_of_this_machine_is_told(files: dict[str, bytes]) -> None:
    """Of an absolute path in the configuration the last part is left; in pictures there is none."""
    text = files["index.html"].decode()

    assert "…/photos" in text
    assert "…/b" in text
    assert not any(part in data for data in files.values() for part in (b"/home/", b"/srv/", str(Path.cwd()).encode()))


def test_the_same_story_gives_the_same_bytes(files: dict[str, bytes]) -> None:
    """No date, no random identifier."""
    assert report(story()) == files


def test_the_tables_hold_the_numbers(files: dict[str, bytes]) -> None:
    """Every metric of every head with its interval; every class with its recall."""
    told = story()
    words = Page(files["index.html"].decode()).words

    for head, found in told.metrics.items():
        own = told.intervals[head]["balanced"]
        assert f"{100 * found['balanced']:.1f} %" in words
        assert f"({100 * own.low:.1f} – {100 * own.high:.1f})" in words
        assert f"{found['nll']:.4g}" in words
    row = words.index("plain", words.index("Classes"))
    shares = [wilson(found["recall"][4], 4) for found in told.metrics.values()]
    cells = [(f"{100 * s.value:.1f} %", f"({100 * s.low:.1f} – {100 * s.high:.1f})") for s in shares]
    assert [word for word in words[row + 1 : row + 16] if word.strip()][:7] == [
        "80", "medium", "4", *(word for cell in cells for word in cell)
    ]  # fmt: skip
    assert {"balanced (exported)", "joint", "macro_f1", "ece"} <= set(words)


def test_a_run_of_one_head_has_a_report() -> None:
    """A plain run measures and exports the joint head alone."""
    files = report(story(heads=("joint",)))
    words = Page(files["index.html"].decode()).words

    assert "joint (exported)" in words
    assert "confusion.svg" in files
    assert "recall, balanced" not in words


@pytest.mark.parametrize(
    ("change", "absent"),
    [
        ({"history": ()}, {"curves", "drift", "crumbs"}),
        ({"history": ({"epoch": 1, "joint_loss": 1.0},)}, {"drift", "crumbs"}),
        ({"logits": {}}, {"confusion", "calibration"}),
        ({"intervals": {}}, set()),
        ({"metrics": {}, "intervals": {}}, {"groups"}),
        ({"labels": np.zeros(0, np.int64), "logits": {"balanced": np.zeros((0, 5))}}, {"confusion", "calibration"}),
    ],
)
def test_what_a_run_lacks_is_a_sentence(change: dict[str, Any], absent: set[str]) -> None:
    """No picture and no error: the page says why."""
    files = report(replace(story(), **change))
    words = Page(files["index.html"].decode()).words

    assert {p.name for p in PICTURES if f"{p.name}.svg" not in files} == absent
    assert all((p.absent in words) == (p.name in absent) for p in PICTURES)


def test_a_class_without_a_test_image_has_no_recall() -> None:
    """A dash in its row, and a sentence at the top."""
    whole = story()
    kept = whole.labels != 2
    logits = {h: values[kept] for h, values in whole.logits.items()}
    metrics = {h: evaluate(values, whole.labels[kept], whole.groups).as_dict() for h, values in logits.items()}

    page = Page(
        report(replace(whole, labels=whole.labels[kept], logits=logits, metrics=metrics))["index.html"].decode()
    )

    row = page.words.index("a & b", page.words.index("Classes"))
    cells = [word for word in page.words[row : row + 20] if word.strip()]
    assert cells[cells.index("0") + 1 :][:2] == ["–", "–"]
    assert any("1 of 5 classes have no test image" in word for word in page.words)


def test_two_thousand_classes_stay_small() -> None:
    """The page lists the thousand worst and weighs less than 2 MB."""
    files = report(story(classes=2000, per_class=1))
    page = Page(files["index.html"].decode())

    assert len(files["index.html"]) < 2_000_000
    assert sum(len(data) for data in files.values()) < 5_000_000
    assert any("The 1,000 of 2,000 classes" in word for word in page.words)


@pytest.mark.parametrize("classes", [10, 240])
def test_no_class_is_lost(classes: int) -> None:
    """Every name is in the table, whole, though it has sixty characters."""
    names = tuple(f"{'Plantae_Tracheophyta_Magnoliopsida_Rosales_Rosaceae_Rosa':<57}{i:03}" for i in range(classes))

    text = page(replace(story(classes=classes, per_class=2), classes=names), {}).decode()

    own = Page(text).words
    table = own[own.index("Classes") :]
    assert set(names) <= set(table)


def test_the_groups_tell_what_stands_behind_them() -> None:
    """Classes, images, test images and recall with its interval; what is unlike the training images where measured."""
    told = replace(story(), unlike={"all": Interval(0.25, 0.1, 0.5)})

    words = [word for word in Page(page(told, {}).decode()).words if word.strip()]

    own = told.intervals["balanced"]["balanced"]
    for group in set(told.groups):
        mask = [one == group for one in told.groups]
        begin = words.index(group, words.index("By group"))
        assert words[begin + 1 : begin + 4] == [str(sum(mask)), f"{told.counts[mask].sum():,}", str(4 * sum(mask))]
    assert f"({100 * own.low:.1f} – {100 * own.high:.1f})" in words
    assert {"unlike what was fitted", "25.0 %", "(10.0 – 50.0)"} <= set(words)
    assert "unlike what was fitted" not in Page(page(story(), {}).decode()).words


def test_precision_and_what_a_class_is_taken_for() -> None:
    """Of the exported head, as defined; a class that is never predicted has no precision."""
    labels = np.repeat(np.arange(3), 4)
    predicted = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])
    logits = {"balanced": np.eye(3)[predicted]}
    own = groups([300, 50, 5], "A")
    metrics = {"balanced": evaluate(logits["balanced"], labels, own).as_dict()}
    whole = replace(
        story(), classes=("elm", "oak", "yew"), counts=np.array([300, 50, 5]), groups=own, labels=labels, logits=logits,
        metrics=metrics, intervals={},
    )  # fmt: skip

    words = [word for word in Page(page(whole, {}).decode()).words if word.strip()]

    table = words[words.index("Classes") :]
    assert metrics["balanced"]["precision"] == (0.6, pytest.approx(4 / 7), None)
    assert table[table.index("few") :][:7] == ["few", "4", "0.0 %", "(0.0 – 49.0)", "–", "elm", "2 of 4"]
    assert "60.0 %" in table[table.index("300") :][:8]
    assert "57.1 %" in table[table.index("50") :][:8]


def test_findings_are_a_part_of_the_page() -> None:
    """As they were made, before the configuration; without them the page does not speak of them."""
    part = html.fragment("findings.html", **dict.fromkeys(("suspects", "twins", "notes"), ()), tested=0)
    told = story()

    with_findings = page(replace(told, findings=part), {}).decode()

    assert str(part) in with_findings
    assert with_findings.index(str(part)) < with_findings.index("Configuration")
    assert "Labels that may be wrong" not in page(told, {}).decode()


def test_writing_leaves_the_same_files(files: dict[str, bytes], folder: Path) -> None:
    """What is returned is what lies in the folder."""
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
