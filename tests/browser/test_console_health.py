"""Health: the numbers of /metrics, as they move, and nothing else."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, Route, expect
from prometheus_client.parser import text_string_to_metric_families
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.state import keys

Numbers = dict[tuple[str, str], float]
PNG = {"content-type": "image/png"}
INFER = "/v2/models/{model}/infer"
PIXELS = {"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [7] * 192}


def parse(text: str) -> Numbers:
    """Every sample by its name and its label's value, as the library of another hand reads it."""
    return {
        (one.name, ",".join(one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def total(numbers: Numbers, name: str) -> float:
    """Over all labels."""
    return sum(value for (own, _), value in numbers.items() if own == name)


def bucket(now: Numbers, before: Numbers, share: float) -> tuple[float, float]:
    """Ends in milliseconds of the bucket in which the share of the new predictions lies."""
    counts: dict[float, float] = {}
    for (name, values), count in now.items():
        end, _, route = values.partition(",")
        if name == "breadcrumbs_request_duration_seconds_bucket" and route in {"/v1/predict", INFER}:
            counts[float(end)] = counts.get(float(end), 0) + count - before.get((name, values), 0)
    ends = sorted(counts)
    place = next(i for i, end in enumerate(ends) if counts[end] >= share * counts[ends[-1]])
    return (1000 * ends[place - 1] if place else 0.0), 1000 * ends[place]


@pytest.fixture
def looks(page: Page) -> list[Numbers]:
    """What the page was answered by /metrics, as it comes."""
    found: list[Numbers] = []

    def keep(answer: Response) -> None:
        if answer.url.endswith("/metrics"):
            found.append(parse(answer.text()))

    page.on("response", keep)
    return found


def test_the_numbers_are_those_of_metrics(page: Page, serve: Serve, looks: list[Numbers]) -> None:
    """Computed again from the same two looks: load, latency, batches, queue, refusals by reason, age of the head."""
    with serve() as client, ThreadPoolExecutor(4) as pool:
        page.goto(f"{client.base_url}#health")
        expect(page.locator(".state")).to_have_text(
            re.compile("^ready Head 1 on cpu, live for [0-9]+ seconds?; an inference answered [0-9.]+ s ago.$")
        )
        expect(page.locator(".tile", has_text="Batch size")).to_contain_text("– images, mean")
        images = [png(picture(seed)) for seed in range(40)]
        list(pool.map(lambda image: client.post("/v1/predict", content=image, headers=PNG), images))
        for _ in range(20):
            client.post("/v2/models/tiny/infer", json={"inputs": [PIXELS]})
        client.post("/v1/predict", content=b"junk", headers=PNG)
        shown: dict[str, list[str]] = page.wait_for_function(
            """() => {
                const tiles = [...document.querySelectorAll(".tile")];
                const texts = Object.fromEntries(tiles.map((one) => [one.querySelector("h3").textContent,
                    [...one.querySelectorAll("b, p:last-child")].map((part) => part.textContent)]));
                return texts["Refused or failed"][1].includes("image") && texts;
            }"""
        ).json_value()

    requests = int(shown["Requests"][1].split()[0])
    place = next(i for i, one in enumerate(looks) if total(one, "breadcrumbs_requests_total") == requests)
    before, now = looks[place - 1 : place + 1]

    def grown(name: str) -> float:
        return total(now, f"breadcrumbs_{name}") - total(before, f"breadcrumbs_{name}")

    assert float(shown["Batch size"][0]) == pytest.approx(grown("batch_size_sum") / grown("batch_size_count"), abs=0.05)
    assert shown["Batch size"][1] == f"{total(now, 'breadcrumbs_batch_size_sum'):.0f} images since the start"
    for name, share in (("Latency, median", 0.5), ("Latency, p99", 0.99)):
        low, high = bucket(now, before, share)
        assert low - 0.5 <= float(shown[name][0]) <= high + 0.5
    assert float(shown["Queue"][0]) == total(now, "breadcrumbs_pending_requests") == 0
    assert shown["Refused or failed"][1] == "image 1"
    assert 0.3 < float(shown["Refused or failed"][0]) * grown("requests_total") / float(shown["Requests"][0]) < 3


def test_a_slow_look_is_not_overtaken(page: Page, serve: Serve) -> None:
    """One look after the other, and none once the part is left."""
    waiting: list[Route] = []
    with serve() as client:
        page.clock.install()
        page.goto(f"{client.base_url}#health")
        expect(page.locator(".state .chip")).to_have_text("ready")
        page.route("**/metrics", lambda route: waiting.append(route))  # noqa: PLW0108 - Playwright marks what it is given
        with page.expect_request("**/metrics"):
            page.clock.run_for(3000)
        page.clock.run_for(30_000)
        assert len(waiting) == 1
        with page.expect_response("**/readyz"):
            waiting[0].continue_()
        with page.expect_request("**/metrics"):
            page.clock.run_for(3000)
        page.get_by_role("link", name="Heads").click()
        expect(page.locator("tr.live")).to_be_visible()
        page.clock.run_for(30_000)
        assert len(waiting) == 2


def test_a_key_that_is_revoked_ends_the_looking(page: Page, serve: Serve, tmp_path: Path) -> None:
    """It is told once; with another key the numbers go on."""
    path = tmp_path / "keys.json"
    old, new = keys.add(path, "old", ("predict",)), keys.add(path, "new", ("predict",))
    with serve(keys=path) as client:
        page.clock.install()
        page.goto(f"{client.base_url}#health")
        page.get_by_label("Key", exact=True).fill(old)
        page.keyboard.press("Enter")
        expect(page.locator(".state .chip")).to_have_text("ready")
        keys.revoke(path, "old")
        with page.expect_response(lambda answer: answer.status == 401):
            page.clock.run_for(3000)
        expect(page.locator("#trouble")).to_contain_text("it may have been revoked")
        page.get_by_label("Key", exact=True).fill(new)
        page.clock.run_for(30_000)
        expect(page.get_by_label("Key", exact=True)).to_have_value(new)
        page.keyboard.press("Enter")
        expect(page.locator(".state .chip")).to_have_text("ready")


def test_a_server_that_is_not_ready_says_why(page: Page, serve: Serve) -> None:
    """In its own words, beside the numbers, which go on."""
    with serve() as client:
        problem = {"error": {"type": "not_ready", "message": "the last inference failed"}}
        page.route("**/readyz", lambda route: route.fulfill(status=503, json=problem))
        page.goto(f"{client.base_url}#health")
        expect(page.locator(".state")).to_have_text("not ready the last inference failed")
        expect(page.locator(".tile")).to_have_count(6)
