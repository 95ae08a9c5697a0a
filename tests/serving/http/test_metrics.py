"""`/metrics` on a real server: every route counts alike, by its own name, and the process tells of itself."""

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import httpx
import pytest
from asked_routes import ASKED, PNG
from prometheus_client.parser import text_string_to_metric_families
from refits import NEVER, events, finish, until, upload
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.refits.job import State

EVENTS = "/v1/refit/{job_id}/events"
WAY = "breadcrumbs_request_duration_seconds_count"


def samples(client: httpx.Client) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of everything, as the library's own parser reads it."""
    for family in text_string_to_metric_families(client.get("/metrics").text):
        yield from ((one.name, one.labels, one.value) for one in family.samples)


def total(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(value for own, had, value in samples(client) if own == name and labels.items() <= had.items())


@pytest.mark.parametrize("name", ASKED)
def test_every_route_counts_alike(serve: Serve, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Time in the queue, decoding, the batch and the predicted group; the log line has the same facts."""
    path, route, body, decodes, predicts = ASKED[name]
    with caplog.at_level("INFO", "breadcrumbs.access"), serve(access_log="all") as client:
        answer = client.post(path, **body)
        assert answer.status_code == 200, answer.text
        counted = {
            part: total(client, f"breadcrumbs_{part}")
            for part in ("queue_duration_seconds_count", "decode_duration_seconds_count", "batch_size_sum")
        }
        predicted = total(client, "breadcrumbs_predictions_total", head="1")
        asked, timed = total(client, "breadcrumbs_requests_total", route=route), total(client, WAY, route=route)
    (line,) = [one.args for one in caplog.records if one.name == "breadcrumbs.access" and one.args["route"] == route]

    assert list(counted.values()) == [1, float(decodes), 1]
    assert (predicted, asked, timed) == (float(predicts), 1, 1)
    assert {"images", "head", "batch_size", "queue_ms", "decode_ms", "compute_ms"} <= set(line)


def test_a_refit_is_in_one_state_at_a_time(serve: Serve, tmp_path: Path) -> None:
    """Every state is there from the start, and one that a refit has left goes back to 0."""

    def states(client: httpx.Client) -> dict[str, float]:
        return {had["state"]: value for own, had, value in samples(client) if own == "breadcrumbs_refit_jobs"}

    none = dict.fromkeys(get_args(State), 0.0)
    with serve() as client:
        assert states(client) == none
    with serve("waits", str(tmp_path / "never")) as client:
        body = {"snapshots": [upload(client)], **NEVER}
        job = client.post("/v1/refit", json=body).json()["id"]
        until(client, job)
        assert states(client) == none | {"running": 1.0}
        client.delete(f"/v1/refit/{job}")
        list(events(client, job))
        assert states(client) == none | {"cancelled": 1.0}


def test_durations_are_apart_by_route(serve: Serve) -> None:
    """An event stream and an upload are in none of the buckets of a prediction; names without a route share one."""
    with serve() as client:
        body = {"snapshots": [upload(client)], **NEVER}
        finish(client, body)
        client.post("/v1/predict", content=png(picture()), headers=PNG)
        for number in range(20):
            client.get(f"/v1/nothing/{number}")
            client.get(f"/v2/models/unknown-{number}")
        found = {had["route"]: value for own, had, value in samples(client) if own == WAY}
        asked: dict[str, float] = {}
        for own, had, value in samples(client):
            if own == "breadcrumbs_requests_total":
                asked[had["route"]] = asked.get(had["route"], 0) + value

    assert found["/v1/predict"] == found["/v1/snapshots"] == found[EVENTS] == 1
    assert (found["unmatched"], found["/v2/models/{model}"]) == (20, 20)
    assert found | {"/metrics": 0} == asked | {"/metrics": 0}
    assert len(found) < 10


def test_the_process_and_the_program_tell_of_themselves(serve: Serve) -> None:
    """Memory, files, CPU, start, version, and how many images may wait."""
    with serve(queue=77) as client:
        mine = {own: value for own, had, value in samples(client) if own.startswith("process_") and not had}
        (build,) = [had for own, had, value in samples(client) if own == "breadcrumbs_build_info" and value == 1]
        room = total(client, "breadcrumbs_queue_capacity")

    assert {"resident_memory_bytes", "open_fds", "max_fds", "cpu_seconds_total", "start_time_seconds"} <= {
        name.removeprefix("process_") for name in mine
    }
    assert 0 < mine["process_open_fds"] < mine["process_max_fds"]
    assert mine["process_resident_memory_bytes"] > 2**20
    assert build == {"version": metadata.version("breadcrumbs-longtail"), "python": platform.python_version()}
    assert room == 77


def test_what_is_learned_from_use_is_counted(serve: Serve) -> None:
    """Answers that are remembered, labels by what they did, refits by who started them, and the precision."""
    with serve("ok", remember=10) as client:
        before = total(client, "breadcrumbs_refit_starts_total")
        answer = client.post("/v1/predict", content=png(picture()), headers=PNG).json()
        label = {"answer": answer["predictions"][0]["id"], "class": "oak", "verified": True}
        for changes in (["new"], ["same"]):
            told = client.post("/v1/labels", json={"labels": [label]}).json()
            assert [one["change"] for one in told["labels"]] == changes
        upload(client)
        finish(client)
        found = {name: had for name, had, value in samples(client) if value == 1 and "precision" in name}

        assert before == 0
        assert total(client, "breadcrumbs_remembered_answers_total", kept="yes") == 1
        assert total(client, "breadcrumbs_labels_total", change="new", verified="yes") == 1
        assert total(client, "breadcrumbs_labels_total", change="same") == 1
        assert total(client, "breadcrumbs_refit_starts_total", by="request") == 1
        assert found == {"breadcrumbs_precision_info": {"precision": "full"}}
