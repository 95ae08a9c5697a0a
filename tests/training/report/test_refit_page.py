"""A refit's page is safe, needs nothing beside it, and tells the numbers of `report.json`."""

import re

import pytest
from pages import Page
from told import NAMES, told

from breadcrumbs.training.report import html
from breadcrumbs.training.report.refit_page import PICTURES, build


@pytest.fixture(scope="module")
def text() -> str:
    """The page of a whole report."""
    return build(told()).decode()


@pytest.fixture(scope="module")
def bare() -> str:
    """The page of a report without new classes, ways to move looks, notes and reasons."""
    return build(told(new_classes=[], transfer=[], notes=[], gate={"answer": "yes", "reasons": []})).decode()


def test_every_picture_is_in_the_page_with_words_for_who_cannot_see_it(text: str) -> None:
    """Inside it, as SVG."""
    images = [attributes for tag, attributes in Page(text).tags if tag == "img"]

    assert len(images) == len(PICTURES)
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in images)
    assert all(image["alt"] for image in images)


def test_the_page_refers_to_nothing_and_can_do_nothing(text: str) -> None:
    """One script, which its own policy names by its digest; no link, nothing from elsewhere."""
    page = Page(text)

    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "a", "form"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not re.search(r"url\(|@import|https?://", text)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert html.SCRIPT in page.words
    assert {"default-src 'none'", f"script-src {html.SCRIPT_SOURCE}"} <= set(policy(page).split("; "))


def policy(page: Page) -> str:
    """What the page itself allows."""
    (own,) = (a for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    return own["content"] or ""


def test_class_names_are_text(text: str) -> None:
    """A class called `<script>` is a name."""
    assert text.count("<script") == 1
    assert all(name in Page(text).words for name in NAMES)


def test_the_page_tells_the_numbers(text: str) -> None:
    """The verdict and its reasons, both heads with intervals, baselines, every class, what was chosen."""
    report = told()
    words = Page(text).words

    assert any(f"The gate says {report.gate.answer}:" in word for word in words)
    assert all(reason in words for reason in report.gate.reasons)
    for head in ("live", "candidate"):
        own = report.intervals[head]["balanced"]
        assert f"{100 * own.value:.1f} %" in words
        assert f"({100 * own.low:.1f} – {100 * own.high:.1f})" in words
    assert {"plain", "λ 0.001, t 0.5", "new", "transfer", "2" * 64} <= set(words)


@pytest.mark.parametrize("answer", ["yes", "no", "not measured"])
def test_the_gates_answer_is_told(answer: str) -> None:
    """In its own words, with a list of reasons where there are any."""
    text = build(told(gate={"answer": answer, "reasons": ["why"] if answer != "yes" else []})).decode()

    assert f"The gate says {answer}{'.' if answer == 'yes' else ':'}" in text
    assert ("<li>why</li>" in text) == (answer != "yes")


def test_new_classes_are_told_apart(text: str, bare: str) -> None:
    """Each with its rows and its recall's interval; without any there is no such section."""
    report = told()
    new = report.new_classes[0]
    assert new.recall is not None

    words = Page(text).words

    assert {"New classes", new.name, f"({100 * new.recall.low:.1f} – {100 * new.recall.high:.1f})"} <= set(words)
    assert "New classes" not in Page(bare).words


def test_what_a_refit_lacks_is_a_sentence() -> None:
    """Without a certificate there is one picture fewer, and the page says why."""
    page = Page(build(told(certificate=None, snapshots=[])).decode())

    assert sum(tag == "img" for tag, _ in page.tags) == len(PICTURES) - 1
    assert all(p.absent in page.words for p, _ in PICTURES if p.name == "gains")
    assert any("No snapshot was uploaded" in word for word in page.words)


def test_the_members_of_the_head_are_told(text: str) -> None:
    """Each with its share, its score and its settings; those with a share also where the page begins."""
    words = Page(text).words

    assert {"75.0 %", "λ 0.01, offset t 0.25", "25.0 %", "λ 0.001, offset t 1.5"} <= set(words)
    assert "75% plain, λ 0.01, offset t 0.25; 25% balanced, λ 0.001, offset t 1.5" in words


def test_the_ways_to_move_looks_are_told(text: str, bare: str) -> None:
    """Each with its interval, and which was chosen; without other looks there is no such section."""
    words = Page(text).words

    assert {"looks of other backbones", "leave out", "map", "62.5 %", "+12.5; +3.0 … +22.0"} <= set(words)
    assert words[words.index("map") :].index("chosen") < 6
    assert "Ways to move other looks" not in Page(bare).words


def test_notes_are_told_as_text(bare: str) -> None:
    """What a reader should know, whatever class names are in it; without any there is no list."""
    notes = ["classes without any row: <b>fir", "class yew moved by 14 σ on 1 row"]

    assert set(notes) <= set(Page(build(told(notes=notes)).decode()).words)
    assert "<li>" not in bare


def test_the_same_report_gives_the_same_bytes(text: str) -> None:
    """No date, no random identifier."""
    assert build(told()).decode() == text


def test_two_thousand_classes_stay_small() -> None:
    """The page lists the thousand that changed most, and what is new."""
    data = build(told(2000, 1))

    assert len(data) < 3_000_000
    assert any("The 1,000 of 2,000 classes" in word for word in Page(data.decode()).words)


def test_both_heads_are_beside_each_other(text: str) -> None:
    """Rows, recall and precision of each class by either head, and what the new one takes it for."""
    report = told()
    words = [word for word in Page(text).words if word.strip()]
    table = words[words.index("Classes") :]
    most = report.confused[0]
    begin = table.index(NAMES[most.true])
    row = table[begin : begin + 16]

    for head in (report.live, report.candidate):
        for share in (head.recall[most.true], head.precision[most.true]):
            assert share is not None
            assert f"{100 * share:.1f} %" in row
    assert f"{most.candidate} of {report.class_rows[most.true]}" in row


def test_an_older_report_has_a_page(text: str) -> None:
    """Without rows, precision and confusions of classes: a dash in their place, and a sentence in the picture's."""
    report = told()
    old = report.model_copy(
        update={
            "class_rows": [], "confused": [], "unlike": {},
            "live": report.live.model_copy(update={"precision": []}),
            "candidate": report.candidate.model_copy(update={"precision": []}),
        }
    )  # fmt: skip

    words = Page(build(old).decode()).words

    assert any(p.absent in words for p, _ in PICTURES if p.name == "confusion")
    assert words.count("–") > Page(text).words.count("–")


def test_the_page_tells_what_is_unlike_the_fitted_rows(text: str) -> None:
    """By group, where it was measured."""
    share = {"value": 0.125, "low": 0.1, "high": 0.2}

    words = Page(build(told(unlike={"all": share, "many": share})).decode()).words

    assert {"unlike what was fitted", "12.5 %", "(10.0 – 20.0)"} <= set(words)
    assert "unlike what was fitted" not in Page(text).words


@pytest.mark.parametrize("count", [0, 1, 1234])
def test_the_page_tells_how_many_examples_judged(count: int) -> None:
    """Beside the rows that they are among; nothing where there were none."""
    words = " ".join(Page(build(told(judged_examples=count)).decode()).words)

    assert ("verified examples among them" in words) == bool(count)
    assert not count or f"{count:,} verified examples among them)" in words


def test_the_page_tells_the_temperature_and_what_it_did(text: str) -> None:
    """In the summary, and by group of the answer with intervals; an older report has no such section."""
    calibration = told().calibration
    assert calibration is not None
    words, whole = Page(text).words, calibration.groups["all"]
    error = f"{100 * whole.before.ece.value:.1f} % → {100 * whole.after.ece.value:.1f} %"

    old = Page(build(told(calibration=None)).decode()).words

    assert f"temperature 1.25 (1.10 – 1.50), prior training, calibration error {error}" in words
    assert {"Probabilities by group", *calibration.groups} <= set(words)
    assert f"({100 * whole.after.ece.low:.1f} – {100 * whole.after.ece.high:.1f})" in words
    assert "Probabilities by group" not in old


def test_the_page_tells_what_known_would_reject(text: str) -> None:
    """By group, for three kinds of thresholds; a head without points has no such section."""
    words = Page(text).words
    start = words.index("What known would reject")
    section = words[start : start + 40]

    assert "What known would reject" not in Page(build(told(rejection=None)).decode()).words
    for row in (
        ["one for all", "5.0 %", "1.0 %", "4.0 %", "18.0 %"],
        ["by group, as known", "5.0 %", "3.0 %", "5.0 %", "8.0 %"],
        ["by class, shrunk to its group", "5.0 %", "–", "6.0 %", "7.0 %"],
    ):
        place = section.index(row[0])
        assert section[place : place + 5] == row
