"""The alert rules: read, and tried on series, by Prometheus' own tool; on metrics and routes that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.errors import STATUS
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.refits.job import State
from breadcrumbs.serving.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "alerts.yml"
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
ASKED = [alert["expr"] for alert in ALERTS] + [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
WHERE = 'job="breadcrumbs", instance="a:1"'

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


def promtool(*arguments: str | Path) -> str:
    """Run it and return what it says; it must be content."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_rules_are_rules() -> None:
    """And the configuration of Prometheus reads them."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)
    assert "1 rule files found" in promtool("check", "config", DEPLOY / "prometheus.yml")


@needs_promtool
def test_metrics_are_as_prometheus_wants_them() -> None:
    """Names, units and help."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=Metrics().text(), capture_output=True, check=False
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, b"")


def test_every_deployment_reads_the_rules() -> None:
    """Compose mounts them where the configuration looks for them; so does what Kubernetes is told."""
    mounts = yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
    (read,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["rule_files"]
    (pattern,) = yaml.safe_load((DEPLOY / "kubernetes/prometheus.yaml").read_text())["rule_files"]

    assert f"./deploy/{read}:/etc/prometheus/{read}:ro" in mounts
    assert (DEPLOY / read) == RULES
    assert str(Path(pattern).parent) in (DEPLOY.parent / "docs/deploy.md").read_text()
    assert Path(pattern).match(f"*{RULES.suffix}")


def test_alerts_and_panels_ask_for_what_there_is() -> None:
    """Metrics, and the values of labels that have a list of values."""
    names = set(re.findall(r"# TYPE (\w+)", Metrics().text().decode()))
    routes, reasons = set(create_app(Settings()).openapi()["paths"]), {kind for _, kind in STATUS.values()}
    asked = " ".join(ASKED)

    for name in re.findall(r"\b(?:breadcrumbs|process)_\w+", asked):
        assert name in names or re.sub(r"_(bucket|sum|count)$", "", name) in names, name
    for pattern in re.findall(r'route=~?"([^"]*)"', asked):
        assert any(re.fullmatch(pattern, route) for route in routes), pattern
    assert set(re.findall(r'reason="(\w+)"', asked)) <= reasons
    for pattern in re.findall(r'state=~"([^"]*)"', asked):
        assert set(pattern.split("|")) <= set(get_args(State))
    for predicting in set(re.findall(r'route=~"([^"]*infer)"', asked)):
        found = {route for route in routes if re.fullmatch(predicting, route)}
        assert found == {
            "/v1/predict", "/v1/features", "/v2/models/{model}/infer",
            "/v2/models/{model}/versions/{version}/infer",
        }  # fmt: skip


def counter(name: str, more: str, each: int) -> dict[str, str]:
    """A series that grows by as much a minute, for an hour and a half."""
    return {"series": f"{name}{{{WHERE}{more}}}", "values": f"0+{each}x90"}


def slow(route: str) -> list[dict[str, str]]:
    """Requests to a route that all take between 5 and 10 seconds."""
    name = "breadcrumbs_request_duration_seconds_bucket"
    return [counter(name, f', route="{route}", le="{le}"', each) for le, each in (("5", 0), ("10", 60), ("+Inf", 60))]


def steady(name: str, value: int, more: str = "") -> dict[str, str]:
    """A series that stays as it is."""
    return {"series": f"{name}{{{WHERE}{more}}}", "values": f"{value}x90"}


def compared(group: str, agree: int, disagree: int) -> list[dict[str, str]]:
    """Answers of a trial, so many a minute."""
    name, more = "breadcrumbs_trial_answers_total", f', mode="shadow", group="{group}", agrees='
    return [counter(name, f'{more}"{word}"', each) for word, each in (("yes", agree), ("no", disagree))]


REMEMBERED = "breadcrumbs_remembered_answers_total"
REQUESTS, REJECTED = "breadcrumbs_requests_total", "breadcrumbs_rejected_total"
FAILED, STARTED = "breadcrumbs_refit_jobs", "process_start_time_seconds"
CASES: dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]] = {
    "Down": ([steady("up", 0)], [steady("up", 1)]),
    "NotReady": (
        [counter(REQUESTS, ', route="/readyz", code="503"', 6)],
        [counter(REQUESTS, ', route="/readyz", code="200"', 6)],
    ),
    "Errors": (
        [counter(REQUESTS, ', route="/v1/predict", code="500"', 1)],
        [counter(REQUESTS, f', route="/v1/predict", code="{code}"', 600) for code in (200, 422, 503)],
    ),
    "Overloaded": (
        [counter(REJECTED, ', reason="overloaded"', 10), counter(REQUESTS, ', route="/v1/predict", code="503"', 100)],
        [counter(REJECTED, ', reason="image"', 99), counter(REQUESTS, ', route="/v1/predict", code="422"', 100)],
    ),
    "QueueFills": (
        [steady("breadcrumbs_pending_requests", 250), steady("breadcrumbs_queue_capacity", 256)],
        [steady("breadcrumbs_pending_requests", 250), steady("breadcrumbs_queue_capacity", 1000)],
    ),
    "Slow": (slow("/v2/models/{model}/infer"), slow("/v1/refit/{job_id}/events") + slow("/v1/snapshots")),
    "RefitFailed": (
        [{"series": f'{FAILED}{{{WHERE}, state="failed"}}', "values": "3x70 4x20"}],
        [steady(FAILED, 3, ', state="failed"'), counter(FAILED, ', state="succeeded"', 1)],
    ),
    "Forgets": (
        [counter(REMEMBERED, ', kept="yes"', 600), counter(REMEMBERED, ', kept="no"', 6)],
        [counter(REMEMBERED, ', kept="yes"', 600)],
    ),
    "TrialFails": (
        [counter("breadcrumbs_trial_errors_total", ', mode="shadow"', 1)],
        [steady("breadcrumbs_trial_errors_total", 7, ', mode="shadow"')],
    ),
    "TrialDisagrees": (compared("few", 7, 3) + compared("many", 99, 1), compared("few", 9, 1)),
    "Restarts": (
        [
            {"series": f'{STARTED}{{{WHERE}, pid="{pid}"}}', "values": f"_x{start} {start}x4"}
            for pid, start in enumerate((62, 67, 72, 77, 82, 87), 40)
        ],
        [steady(STARTED, 7, f', pid="{pid}"') for pid in (1, 2)],
    ),
    "OpenFiles": (
        [steady("process_open_fds", 900), steady("process_max_fds", 1024)],
        [steady("process_open_fds", 700), steady("process_max_fds", 1024)],
    ),
}


def test_every_alert_is_tried() -> None:
    """Whoever adds one says what makes it fire."""
    assert [f"Breadcrumbs{name}" for name in CASES] == [alert["alert"] for alert in ALERTS]


@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should_and_else_not(name: str, tmp_path: Path) -> None:
    """Seen at 90 minutes, by Prometheus' own clockwork."""
    for place, fires in enumerate((True, False)):
        file = tmp_path / f"{place}.yml"
        expr = f'count(ALERTS{{alertname="Breadcrumbs{name}", alertstate="firing"}}) > 0'
        samples = [{"labels": "{}", "value": 1}] if fires else []
        test = {
            "interval": "1m",
            "input_series": CASES[name][place],
            "promql_expr_test": [{"expr": expr, "eval_time": "89m", "exp_samples": samples}],
        }
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))

        promtool("test", "rules", file)
