"""The console's reader of `/metrics`, run by node, beside the library's own parser."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asked_routes import ASKED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from running import Serve

from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.settings import Settings

READER = Path(__file__).with_name("metrics_reader.mjs")
SCRIPT = Path(__file__).parents[3] / "serving/console/metrics.js"
HEALTH = SCRIPT.with_name("health.js").read_text()
REQUESTS = "breadcrumbs_requests_total"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


def read(before: str, now: str, *asks: list[Any]) -> dict[str, Any]:
    """What the script makes of two looks."""
    given = json.dumps({"metrics": str(SCRIPT), "texts": [before, now], "asks": asks})
    done = subprocess.run(["node", READER], input=given, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def known(text: str) -> list[tuple[str, dict[str, str], float]]:
    """What the library's parser makes of one."""
    return [(one.name, one.labels, one.value) for f in text_string_to_metric_families(text) for one in f.samples]


def same(text: str) -> None:
    """Assert that both read alike."""
    found = read("", text)["samples"]
    numbers = {"Infinity": "inf", "-Infinity": "-inf"}

    assert [(name, labels, float(numbers.get(value, value))) for name, labels, value in found] == known(text)


def routes() -> list[str]:
    """All of them, as metrics name them."""
    return sorted(create_app(Settings()).openapi()["paths"])


def test_every_route_is_read() -> None:
    """Also those with parameters: one request for each is one request in the sum and in its label's growth."""
    metrics, before = Metrics(), Metrics().text().decode()
    for route in routes():
        metrics.requests.labels(route, "200").inc()
        metrics.duration.labels(route).observe(0.02)
    now = metrics.text().decode()
    whole, by_route = read(before, now, ["sum", REQUESTS], ["byLabel", REQUESTS, "route"])["answers"]

    same(now)
    assert any("{" in route for route in routes())
    assert whole == len(routes())
    assert dict(by_route) == dict.fromkeys(routes(), 1)


# what label values may hold and a reader by a pattern stumbles over, more often than by chance
WORDS = st.text(st.one_of(st.sampled_from('{}",\\\n= #n'), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=30, unique=True))
def test_label_values_may_hold_anything(pairs: list[tuple[str, str]]) -> None:
    """Braces, quotes, commas, backslashes, newlines: as the library reads them."""
    registry = CollectorRegistry()
    counter = Counter("one", "text", ["a", "b"], registry=registry)
    for number, (first, second) in enumerate(pairs):
        counter.labels(first, second).inc(number)

    same(generate_latest(registry).decode())


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e+06", "-1.5", "12 1395066363000"])
def test_numbers_of_every_form_are_read(value: str) -> None:
    """Exponents, infinities, and a time behind the number."""
    ((name, labels, read_as),) = read("", f'# HELP x y\nx{{a="b"}} {value}\n')["samples"]
    expected = {"NaN": "NaN", "+Inf": "Infinity", "-Inf": "-Infinity", "1e+06": "1000000"}

    assert (name, labels, read_as) == ("x", {"a": "b"}, expected.get(value, value.split(maxsplit=1)[0]))


def test_health_counts_every_way_to_predict(serve: Serve) -> None:
    """After one request to each, the sum of the console is that of the server."""
    with serve() as client:
        before = client.get("/metrics").text
        for path, _, body, *_ in ASKED.values():
            assert client.post(path, **body).status_code == 200
        now = client.get("/metrics").text
    (grown,) = read(before, now, ["grown", REQUESTS])["answers"]

    assert grown == len(ASKED) + 1, "and the first look"


def test_latency_is_that_of_predictions() -> None:
    """A slow event stream and quick probes leave it alone; all routes that predict are in it."""
    predicting = {route for _, route, *_ in ASKED.values()}
    (pattern,) = [
        line.split(";")[0].split(" = ")[1] for line in HEALTH.splitlines() if line.startswith("const PREDICTS")
    ]
    check = f"console.log(JSON.stringify({json.dumps(routes())}.filter((one) => ({pattern}).test(one))))"
    done = subprocess.run(["node", "-e", check], capture_output=True, text=True, check=True)

    assert set(json.loads(done.stdout)) == predicting


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 0.01, 0.025), (0.99, 0.05, 0.1)])
def test_a_quantile_is_taken_over_routes(share: float, low: float, high: float) -> None:
    """Buckets of several routes are one histogram, and what was there before is not in it."""
    metrics = Metrics()
    metrics.duration.labels("/v1/predict").observe(9)
    before = metrics.text().decode()
    for _ in range(90):
        metrics.duration.labels("/v1/predict").observe(0.02)
    for _ in range(10):
        metrics.duration.labels("/v2/models/{model}/infer").observe(0.07)
    (found,) = read(before, metrics.text().decode(), ["quantile", "breadcrumbs_request_duration_seconds", share])[
        "answers"
    ]

    assert low <= found <= high
