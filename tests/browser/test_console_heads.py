"""Heads: the line of versions, what is live, and the way there and back, each confirmed."""

import re
from pathlib import Path

from patience import soon
from playwright.sync_api import Page, expect
from refits import finish
from running import Serve

from breadcrumbs.serving.state import keys


def test_heads_are_listed_with_their_recalls(page: Page, serve: Serve, tmp_path: Path) -> None:
    """many, medium, few and all in percent, where they come from, what the gate said, and the report."""
    with serve("worse") as client:
        job = finish(client, {"spec": {"activate": "never"}})["id"]
        metrics = client.get("/v1/heads/2").json()["metrics"]
        page.goto(f"{client.base_url}#heads")
        row = page.get_by_role("row").filter(has=page.get_by_role("button", name="Activate head 2"))
        titles = page.get_by_role("table").first.get_by_role("columnheader")
        expect(titles).to_have_text(
            ["head", "made", "classes", "many", "medium", "few", "all", "from", "gate", "report", "go live"]
        )
        recalls = [metrics[name] for name in ("many", "medium", "few", "all")]
        shares = ["–" if one is None else f"{100 * one:.1f} %" for one in recalls]
        made, came, gate = re.compile("ago|just now"), re.compile("head 1"), re.compile("no")
        expect(row.locator("td")).to_have_text(["2", made, "3", *shares, came, gate, "read", "Activate Try"])
        row.get_by_role("cell").get_by_text("no", exact=True).click()
        expect(row.get_by_text("few fell by 0.2")).to_be_visible()
        report = tmp_path / "store" / "refits" / job / "report.html"
        report.write_text("<h1>what changed</h1>")  # the fake child's has a script, which the policy refuses
        row.get_by_role("link", name="read").click()
        expect(page).to_have_url(f"{client.base_url}/console/report.html#{job}")
        expect(page.frame_locator("#report").get_by_role("heading")).to_have_text("what changed")


def test_what_changes_is_shown_before_it_does(page: Page, serve: Serve) -> None:
    """With both heads' recalls and the difference; the button says what it does, and Escape does nothing."""
    with serve() as client:
        finish(client, {"spec": {"activate": "never"}})
        page.goto(f"{client.base_url}#heads")
        expect(page.get_by_role("button", name="Nothing to roll back to")).to_be_disabled()
        page.get_by_role("button", name="Activate head 2").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Make head 2 live instead of head 1?")
        expect(dialog.get_by_role("row", name=re.compile("^all images"))).to_contain_text("50.0 %90.0 %+40.0 points")
        expect(dialog).to_contain_text("the same")
        page.keyboard.press("Escape")
        assert client.get("/v1/heads").json()["live"] == 1
        page.get_by_role("button", name="Activate head 2").click()
        page.get_by_label("Reason, kept in the log").fill("seen in the browser")
        dialog.get_by_role("button", name="Activate head 2").click()
        expect(page.locator("tr.live td").first).to_have_text("2live")
        expect(page.get_by_text("seen in the browser")).to_be_visible()
        page.get_by_role("button", name="Roll back to head 1").click()
        expect(dialog).to_contain_text("Go back from head 2 to head 1?")
        dialog.get_by_role("button", name="Cancel").click()
        assert client.get("/v1/heads").json()["live"] == 2
        page.get_by_role("button", name="Roll back to head 1").click()
        dialog.get_by_role("button", name="Roll back to head 1").click()
        expect(page.locator("tr.live td").first).to_have_text("1live")
        assert client.get("/v1/heads").json()["live"] == 1
        expect(page.get_by_role("button", name="Nothing to roll back to")).to_be_disabled()


def test_a_question_has_its_own_answer(page: Page, serve: Serve) -> None:
    """Asked again before the browser has told that the first dialog is closed, which it does a frame later."""
    with serve() as client:
        finish(client, {"spec": {"activate": "never"}})
        page.goto(f"{client.base_url}#heads")
        ask = page.get_by_role("button", name="Activate head 2")
        ask.evaluate("(button) => { button.click(); document.getElementById('sure').close('no'); button.click(); }")
        page.evaluate("() => new Promise((frame) => requestAnimationFrame(() => requestAnimationFrame(frame)))")
        page.get_by_role("dialog").get_by_role("button", name="Activate head 2").click()
        expect(page.locator("tr.live td").first).to_have_text("2live")


def test_a_change_that_came_too_late_is_told(page: Page, serve: Serve) -> None:
    """Somebody else was first: the server's words stay, above the heads as they are now."""
    with serve() as client:
        for _ in range(2):
            finish(client, {"spec": {"activate": "never"}})
        page.goto(f"{client.base_url}#heads")
        page.get_by_role("button", name="Activate head 3").click()
        assert client.post("/v1/heads/2/activate").status_code == 200
        page.get_by_role("dialog").get_by_role("button", name="Activate head 3").click()
        expect(page.locator("tr.live td").first).to_have_text("2live")
        expect(page.get_by_role("alert")).to_contain_text("head 2 is live")


def test_to_overrule_the_gate_takes_a_reason(page: Page, serve: Serve) -> None:
    """The gate's reasons are repeated, and without one of its own nothing goes live."""
    with serve("worse") as client:
        finish(client, {"spec": {"activate": "never"}})
        page.goto(f"{client.base_url}#heads")
        page.get_by_role("button", name="Activate head 2").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Of head 2 the gate said no.")
        expect(dialog).to_contain_text("few fell by 0.2")
        deed = dialog.get_by_role("button", name="Activate head 2")
        deed.click()
        page.get_by_label("Reason, kept in the log").fill("   ")
        deed.click()
        expect(dialog).to_be_visible()
        assert client.get("/v1/heads").json()["live"] == 1
        page.get_by_label("Reason, kept in the log").fill("the lab wants it")
        deed.click()
        expect(page.locator("tr.live td").first).to_have_text("2live")


def test_a_head_is_tried_beside_the_live_one(page: Page, serve: Serve) -> None:
    """Started with a reason, counted by group and by class, and ended; what it came to stays."""
    with serve(remember=100) as client:
        finish(client, {"spec": {"activate": "never"}})
        page.goto(f"{client.base_url}#heads")
        expect(page.get_by_text("No head was ever on trial.")).to_be_visible()
        page.get_by_role("button", name="Try head 2").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Try head 2 beside head 1?")
        page.get_by_label("Reason, kept in the log").fill("before the weekend")
        dialog.get_by_role("button", name="Try head 2").click()
        trials = page.get_by_role("table", name="Heads on trial")
        expect(trials.get_by_role("row").nth(1)).to_contain_text("counted only")
        assert client.get("/v1/trials/1").json()["start"]["reason"] == "before the weekend"
        client.post("/v1/predict", json={"features": [[1, 0, 0, 0], [0, 1, 0, 0]]}).raise_for_status()
        soon(lambda: client.get("/v1/trials/1").json()["classes"], "the counts of the trial")
        page.reload()
        page.get_by_text("Trial 1 by group and by class").click()
        told = client.get("/v1/trials/1").json()
        for name, found in (
            ("group", [one for one in told["groups"] if one != "all"]),
            ("class", [one["name"] for one in told["classes"]]),
        ):
            cells = page.get_by_role("table", name=f"Trial 1 by {name}").locator("tbody td:first-child")
            assert sorted(cells.all_inner_texts()) == sorted(found)
        trials.get_by_role("button", name="End trial 1").click()
        expect(trials.get_by_role("row").nth(1)).to_contain_text("ended")
        assert client.get("/v1/trials/1").json()["end"]["outcome"] == "ended"


def test_each_line_is_shown_and_changed_by_itself(page: Page, serve: Serve) -> None:
    """Its live head, its log and its way back; trials are of the default line; the choice keeps the focus."""
    with serve() as client:
        finish(client, {"spec": {"activate": "never"}})
        client.put("/v1/lines/lab-a", json={"head": 2, "reason": "for the lab"}).raise_for_status()
        page.goto(f"{client.base_url}#heads")
        line = page.get_by_role("combobox", name="Line")
        expect(line.get_by_role("option")).to_have_text(["default: head 1", "lab-a: head 2"])
        expect(page.locator("tr.live td").first).to_have_text("1live")
        expect(page.get_by_role("heading", name="On trial")).to_be_visible()
        line.select_option("lab-a")
        expect(page.locator("tr.live td").first).to_have_text("2live")
        expect(line).to_be_focused()
        expect(page.get_by_text("for the lab")).to_be_visible()
        expect(page.get_by_role("heading", name="On trial")).to_have_count(0)
        page.get_by_role("button", name="Activate head 1").click()
        expect(page.get_by_role("dialog")).to_contain_text("Make head 1 live instead of head 2 in the line lab-a?")
        page.get_by_role("dialog").get_by_role("button", name="Activate head 1").click()
        expect(line.get_by_role("option")).to_have_text(["default: head 1", "lab-a: head 1"])
        expect(page.get_by_role("button", name="Roll back to head 2")).to_be_visible()
        assert len(client.get("/v1/activations").json()["activations"]) == 1


def test_a_key_of_a_line_sees_that_line(page: Page, serve: Serve, tmp_path: Path) -> None:
    """Without a choice, since it reaches no other; trials are not for it, and the rest of the page is there."""
    path = tmp_path / "keys.json"
    admin, bound = keys.add(path, "boss", ("admin",)), keys.add(path, "lab-a", ("predict", "promote"), lines=("lab-a",))
    with serve(keys=path) as client:
        client.put("/v1/lines/lab-a", headers={"Authorization": f"Bearer {admin}"}).raise_for_status()
        page.goto(f"{client.base_url}#heads")
        page.get_by_label("Key", exact=True).fill(bound)
        page.keyboard.press("Enter")
        expect(page.locator("tr.live td").first).to_have_text("1live")
        expect(page.get_by_role("table", name="What went live")).to_contain_text("create")
        expect(page.get_by_role("combobox", name="Line")).to_have_count(0)
        expect(page.get_by_role("heading", name="On trial")).to_have_count(0)
