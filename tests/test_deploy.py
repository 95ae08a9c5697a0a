"""What is deployed, read as a deployment tool would: files that exist, metrics and settings that are there."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())


def test_compose_mounts_files_that_are_there() -> None:
    """And scrapes the service by the name and port that it has."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    mounts = [m for service in compose["services"].values() for m in service["volumes"] if m.startswith("./")]
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())

    assert len(mounts) == 5
    assert all((ROOT / mount.split(":")[0]).is_file() for mount in mounts)
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == ["breadcrumbs:8000"]
    assert "breadcrumbs" in compose["services"]


def test_the_dashboard_shows_every_metric_that_there_is() -> None:
    """By its name at /metrics, and no other, in panels that do not overlap."""
    text = Metrics().text().decode()
    known = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge)", text, re.MULTILINE))
    for name in re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE):
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for t in panel["targets"]
        for name in re.findall(r"breadcrumbs_\w+", t["expr"])
    }
    cells = [(x, y) for panel in DASHBOARD["panels"] for x, y in covered(panel["gridPos"])]

    assert asked <= known
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    there = set(re.findall(r"^# TYPE (breadcrumbs_\w+)", text, re.MULTILINE))
    assert {name for name in there if not name.endswith("_created")} <= families
    assert len(cells) == len(set(cells))


def covered(place: dict[str, Any]) -> list[tuple[int, int]]:
    """The cells of the dashboard's grid that a panel takes."""
    rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
    return [(x, y) for y in rows for x in columns]


def test_the_image_sets_settings_that_there_are() -> None:
    """And every package of the project gets past .dockerignore."""
    names = {name.lower() for name in re.findall(r"BREADCRUMBS_(\w+)=", DOCKERFILE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert names <= set(Settings.model_fields)
    assert {package.split(".")[0] for package in project["tool"]["setuptools"]["packages"]} <= kept
    assert {"pyproject.toml", "requirements", "breadcrumbs", "README.md", "LICENSE"} <= kept


@pytest.mark.parametrize("word", ["<<", "--link", "--exclude", "--parents"])
def test_plain_builders_can_read_the_dockerfile(word: str) -> None:
    """Nothing in it needs a newer frontend."""
    assert word not in DOCKERFILE


def test_dependencies_are_installed_before_the_source_is_copied() -> None:
    """In both builders, so that a change of the source does not install them again."""
    for target in ("serve-builder", "full-builder"):
        stage = DOCKERFILE.split(f"AS {target}")[1].split("FROM")[0]

        assert stage.index("--requirement") < stage.index("COPY . .")


def test_the_image_says_what_it_is() -> None:
    """Its labels have this version and licence; revision and source are told by who builds it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))

    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["title"]
    for name in ("revision", "source"):
        assert labels[name] == f"${name.upper()}"
        assert f"ARG {name.upper()}=" in DOCKERFILE.split("AS runtime")[1].split("LABEL")[0]
