"""Refit: what the checks found before the start, how far it is while it runs, and what came of it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from refits import finish, until
from running import Serve
from tabs import drop, snapshot_file
from tiny import tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots

GROUPS = {"oak": "many", "elm": "medium", "yew": "new", "rowan": "new"}


@pytest.fixture
def march(bundle: Bundle, tmp_path: Path) -> Path:
    """A snapshot's file with two classes that are new."""
    file = tmp_path / "march.safetensors"
    file.write_bytes(snapshot_file(bundle, tuple(GROUPS), (5, 4, 2, 1)))
    return file


def test_upload_refit_activate_and_rollback(page: Page, serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    """The whole way, as a person goes it."""
    file = tmp_path / "march.safetensors"
    file.write_bytes(snapshots.to_bytes(tiny_snapshot(bundle.backbone_digest, 5)))
    with serve() as client:
        page.goto(f"{client.base_url}#refit")
        expect(page.get_by_text("Drop snapshot files, or choose them")).to_be_visible()
        drop(page, 400, 300, file)
        expect(page.locator(".snapshot")).to_contain_text("epoch 5, 12 rows of 3 classes")
        page.get_by_label("Go live").select_option("never")
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        expect(page.locator(".job").get_by_role("row", name=re.compile("^all "))).to_contain_text("50.0 %90.0 %")
        page.get_by_role("link", name="See the heads").click()
        page.get_by_role("button", name="Activate head 2").click()
        page.get_by_role("dialog").get_by_role("button", name="Activate head 2").click()
        expect(page.locator("tr.live td").first).to_have_text("2live")
        page.get_by_role("button", name="Roll back to head 1").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back to head 1").click()
        expect(page.locator("tr.live td").first).to_have_text("1live")

        assert client.get("/v1/heads/2").json()["lineage"]["snapshots"] == [
            client.get("/v1/snapshots").json()["snapshots"][0]["sha256"]
        ]


def test_what_the_checks_found_is_shown_before_the_start(page: Page, serve: Serve, bundle: Bundle, march: Path) -> None:
    """Rows of every class, groups, epoch, backbone, and the new classes by name, which have to be let in."""
    other = snapshots.to_bytes(tiny_snapshot("b" * 64, 4))
    with serve() as client:
        client.put("/v1/snapshots", content=other)
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files(march)
        card = page.locator(".snapshot").first
        expect(card.get_by_role("checkbox", name="march.safetensors")).to_be_checked()
        expect(card).to_contain_text("epoch 5, 12 rows of 4 classes")
        expect(card).to_contain_text("made by the deployed backbone")
        expect(card.locator(".chip:visible")).to_have_text(["many 5", "medium 4", "new 3"])
        expect(card).to_contain_text("New: yew (2), rowan (1)")
        rows = card.get_by_role("table").get_by_role("row")
        expect(rows).to_have_text(
            [
                "classgrouprowsbeside the largest",
                *(f"{name}{GROUPS[name]}{n}" for name, n in zip(GROUPS, (5, 4, 2, 1), strict=True)),
            ]
        )
        expect(page.locator(".snapshot").nth(1)).to_contain_text("made by another backbone, bbbbbbbbbbbb")
        expect(page.get_by_label("Let the new classes in: yew, rowan")).not_to_be_checked()
        expect(page.get_by_text("Fits a head to 1 snapshot (12 rows; epoch 5) and the bundle's own.")).to_be_visible()
        options = page.get_by_label("Compare on").locator("option")
        expect(options.nth(1)).to_have_text(re.compile("^[0-9a-f]{12}: epoch 4, 12 rows, .*: another backbone"))
        expect(options.nth(2)).to_have_text(re.compile(r"march\.safetensors: epoch 5, 12 rows, (just now|.* ago)"))
        page.get_by_label("Compare on").select_option(index=2)
        expect(card.get_by_role("checkbox")).to_be_disabled()
        expect(card.get_by_text("to compare on")).to_be_visible()
        page.get_by_label("Also to those that the bundle carries").uncheck()
        expect(page.get_by_role("button", name="Start the refit")).to_be_disabled()


def test_a_snapshot_that_is_there_already_is_chosen(page: Page, serve: Serve, march: Path) -> None:
    """Uploaded again it is no second one, and now it has its file's name."""
    with serve() as client:
        client.put("/v1/snapshots", content=march.read_bytes())
        page.goto(f"{client.base_url}#refit")
        expect(page.locator(".snapshot").get_by_role("checkbox")).not_to_be_checked()
        page.locator("input[type=file]").set_input_files(march)
        expect(page.locator(".snapshot").get_by_role("checkbox", name="march.safetensors")).to_be_checked()
        expect(page.locator(".snapshot")).to_have_count(1)
        expect(page.get_by_role("combobox", name="Compare on").locator("option")).to_have_count(2)


def test_a_thousand_classes_are_drawn_when_somebody_looks(page: Page, serve: Serve, bundle: Bundle) -> None:
    """Not before; and of many new ones the first are named and the others counted."""
    names = tuple(f"species {number}" for number in range(1000))
    with serve() as client:
        client.put("/v1/snapshots", content=snapshot_file(bundle, names, (2,) * len(names)))
        page.goto(f"{client.base_url}#refit")
        card = page.locator(".snapshot")
        expect(card).to_contain_text("species 19 (2) and 980 more")
        expect(card.get_by_role("row")).to_have_count(0)
        card.get_by_text("Rows of each class (1,000)").click()
        expect(card.get_by_role("row")).to_have_count(1001)


def test_new_classes_are_let_in(page: Page, serve: Serve, march: Path) -> None:
    """Where the box says so, the refit is asked to."""
    with serve("grows") as client:
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files(march)
        page.get_by_label("Let the new classes in").check()
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")

        assert client.get("/v1/refit").json()["refits"][0]["request"]["spec"]["allow_new_classes"] is True


def test_a_refit_is_followed_stage_by_stage(page: Page, serve: Serve, tmp_path: Path) -> None:
    """Stages done and to come, the solver's gradient norm; left and come back to, it goes on; then what came of it."""
    with serve("solves", str(tmp_path / "go")) as client:
        page.goto(f"{client.base_url}#refit")
        page.get_by_role("button", name="Start the refit").click()
        for _ in range(2):
            expect(page.locator(".steps [aria-current=step]")).to_have_text("fit")
            expect(page.locator(".steps .done")).to_have_text(
                ["read the images' features", "bring older ones over", "choose the settings"]
            )
            expect(page.locator(".job")).to_contain_text("Step 4 of 8: fit")
            expect(page.locator(".job")).to_contain_text("λ 0.001, iteration 9, gradient norm 3.8e-6")
            assert page.get_by_label("stages done").evaluate("bar => bar.position") == pytest.approx(3 / 8)
            with page.expect_event("requestfailed", lambda asked: asked.url.endswith("/events")):
                page.get_by_role("link", name="Heads").click()
            page.get_by_role("link", name="Refit", exact=True).click()
        (tmp_path / "go").touch()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        expect(page.get_by_role("button", name=re.compile("Result of refit"))).to_be_visible()


def test_a_refit_is_cancelled(page: Page, serve: Serve, tmp_path: Path) -> None:
    """And says so."""
    with serve("waits", str(tmp_path / "never")) as client:
        started = client.post("/v1/refit", json={}).json()["id"]
        until(client, started)
        page.goto(f"{client.base_url}#refit")
        page.get_by_role("button", name="Cancel this refit").click()
        expect(page.locator(".job")).to_contain_text("This refit is cancelled.")


def test_a_refit_that_failed_says_why(page: Page, serve: Serve) -> None:
    """In the words of its program; of the gate nothing is said."""
    with serve("mistake") as client:
        finish(client)
        page.goto(f"{client.base_url}#refit")
        page.get_by_role("button", name=re.compile("Result of refit")).click()
        expect(page.locator(".job")).to_contain_text("class 'elm' has 1 example; expected 2")
        expect(page.locator(".job")).not_to_contain_text("gate")


def test_a_file_that_is_no_snapshot_is_told(page: Page, serve: Serve, tmp_path: Path) -> None:
    """By its name, in the server's words, and nothing is added."""
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk" * 40)
    with serve() as client:
        page.goto(f"{client.base_url}#refit")
        expect(page.get_by_text("No snapshots are stored yet")).to_be_visible()
        expect(page.get_by_text("None yet.")).to_be_visible()
        page.locator("input[type=file]").set_input_files(junk)
        expect(page.locator("main").get_by_role("alert")).to_contain_text("junk.safetensors: ")
        expect(page.locator(".snapshot")).to_have_count(0)


def test_a_script_in_a_class_name_is_text(page: Page, serve: Serve, bundle: Bundle) -> None:
    """Where snapshots are listed, it is shown as it is written, and does nothing."""
    name = "<img src=x onerror=document.title='PWNED'>"
    with serve() as client:
        client.put("/v1/snapshots", content=snapshot_file(bundle, (name, "elm", "oak"), (4, 4, 4)))
        page.goto(f"{client.base_url}#refit")
        expect(page.locator(".snapshot").first).to_contain_text(f"New: {name} (4)")
        assert page.title() == "Refit – Breadcrumbs"


def test_a_head_is_shown_live_before_its_report(page: Page, serve: Serve, tmp_path: Path) -> None:
    """Which head, why, and that the report follows; then there is nothing to cancel."""
    gate = tmp_path / "gate"
    with serve("reports", str(gate)) as client:
        page.goto(f"{client.base_url}#refit")
        page.get_by_role("button", name="Start the refit").click()
        said = "Head 2 is live: activated: the gate says yes. The report follows."
        expect(page.get_by_text(said)).to_be_visible()
        expect(page.get_by_role("button", name="Cancel this refit")).to_be_hidden()
        gate.touch()
        expect(page.get_by_role("link", name="Read the whole report")).to_be_visible()


def test_classes_are_renamed_merged_and_removed(page: Page, serve: Serve) -> None:
    """A class a line; a slip is told at once, a name that the live head does not have by the server, with near ones."""
    with serve() as client:
        page.goto(f"{client.base_url}#refit")
        page.get_by_text("Rename, merge or remove classes").click()
        names = page.get_by_label("Old and new names")
        names.fill("oak = holm oak\nelm")
        expect(page.get_by_text("Line 2: expected old = new, or old = to remove the class.")).to_be_visible()
        page.get_by_role("button", name="Start the refit").click()
        assert client.get("/v1/refit").json()["refits"] == []
        names.fill("oka = holm oak")
        page.get_by_role("button", name="Start the refit").click()
        expect(page.get_by_text("the live head has no class 'oka'; near it: oak")).to_be_visible()
        names.fill("oak = holm oak\nelm =")
        expect(page.get_by_text("1 class renamed or merged. 1 class removed.")).to_be_visible()
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")

        assert client.get("/v1/refit").json()["refits"][0]["request"]["spec"]["classes"] == {
            "oak": "holm oak", "elm": None,
        }  # fmt: skip


@pytest.mark.parametrize("verified", [1, 0])
def test_examples_are_chosen_where_there_are_some(page: Page, serve: Serve, verified: int) -> None:
    """The verified ones at first; what there is none of cannot be chosen; the words above the button say which."""
    labels = [{"feature": [float(one)] * 4, "class": "oak", "verified": one < verified} for one in range(3)]
    with serve() as client:
        client.post("/v1/labels", json={"labels": labels}).raise_for_status()
        page.goto(f"{client.base_url}#refit")
        choice = page.get_by_role("combobox", name="Examples")
        expect(choice).to_have_value("verified" if verified else "none")
        expect(choice.locator("option")).to_have_text([f"the verified ones ({verified})", "all (3)", "none"])
        choice.select_option("all")
        expect(page.get_by_text("Fits a head to 3 examples and the bundle's own.")).to_be_visible()
        page.get_by_label("Go live").select_option("never")
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        (job,) = client.get("/v1/refit").json()["refits"]

    assert job["request"]["examples"] == "all"
