"""The pages on the server, compared with the server."""

import re
from pathlib import Path

import pytest
from cyclopts import Parameter
from pydantic import ValidationError
from running import make_settings

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.routes.open_inference import FORMAT_LIMITS, LIMITS
from breadcrumbs.serving.settings import GROUPS, Settings

DOCS = Path(__file__).parents[3] / "docs"


def row(name: str) -> str:
    """The documented row of a setting."""
    field = Settings.model_fields[name]
    assert field.description, f"{name} has no text"
    default = {True: "on", False: "off"}[field.default] if isinstance(field.default, bool) else field.default
    shown = "the demo bundle" if name == "bundle" else "none" if default in {None, ()} else default
    text = " ".join(field.description.split())
    return f"| `--{name.replace('_', '-')}` | `BREADCRUMBS_{name.upper()}` | {shown} | {text} |"


def group(name: str) -> str:
    """The group of a setting, as help shows it."""
    (parameter,) = (one for one in Settings.model_fields[name].metadata if isinstance(one, Parameter))
    return parameter.group[0].name


def test_every_setting_has_its_row() -> None:
    """Below its group: flag, variable, default and meaning, in the words of the code; and no row without a setting."""
    text = (DOCS / "serving.md").read_text()
    told = re.findall(
        r"^### (.*)$|^(\| `--.*\|)$", text.partition("\n## Settings\n")[2].partition("\n## ")[0], re.MULTILINE
    )
    expected = []
    for title in GROUPS:
        expected += [title, *(row(name) for name in Settings.model_fields if group(name) == title)]

    assert [heading or line for heading, line in told] == expected
    assert len(expected) == len(Settings.model_fields) + len(GROUPS)


def test_every_limit_has_its_row() -> None:
    """Those that no setting changes: name and value, as `/v2` shows them; and no row without a limit."""
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]+) \|", (DOCS / "serving.md").read_text(), re.MULTILINE)

    assert {name: int(value) for name, value in rows} == FORMAT_LIMITS
    assert set(LIMITS) < set(Settings.model_fields)


def test_every_route_has_its_section_with_an_example(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And no section is about a route that is not there."""
    paths = create_app(make_settings(tiny_bundle, tmp_path)).openapi()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    sections = re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", (DOCS / "api.md").read_text(), re.MULTILINE | re.DOTALL)

    assert {name for name, _ in sections} == routes
    for name, text in sections:
        assert "$ curl" in text, f"{name} has no example"


def test_every_error_type_has_its_row() -> None:
    """Status and type, as the mapping has them; parents that nothing raises are left out."""
    rows = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", (DOCS / "api.md").read_text(), re.MULTILINE))
    inner = {"refused", "invalid", "abandoned"}  # two parents, and one that nobody is left to read
    mapped = {(str(code), kind) for code, kind in errors.STATUS.values() if kind not in inner}

    unmapped = {("405", "method_not_allowed"), ("408", "timeout"), ("500", "internal"), ("503", "not_ready")}
    assert rows == mapped | unmapped


def test_every_metric_has_its_row() -> None:
    """Names and labels."""
    rows = dict(re.findall(r"^\| `(breadcrumbs_\w+)` \| (.*?) ?\|", (DOCS / "serving.md").read_text(), re.MULTILINE))
    found = {}
    for one in vars(Metrics()).values():
        if hasattr(one, "_labelnames"):
            name = one._name + ("_total" if type(one).__name__ == "Counter" else "")
            found[name] = ", ".join(f"`{label}`" for label in one._labelnames)

    assert rows == found


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under their documented names; an argument wins."""
    monkeypatch.setenv("BREADCRUMBS_MAX_BATCH", "7")
    monkeypatch.setenv("BREADCRUMBS_ACCESS_LOG", "off")

    assert (Settings().max_batch, Settings().access_log, Settings(max_batch=9).max_batch) == (7, "none", 9)


@pytest.mark.parametrize(
    ("word", "meant"), [("true", "all"), ("On", "all"), ("1", "all"), ("false", "none"), ("NO", "none"), ("0", "none")]
)
def test_a_switch_for_request_lines_is_still_read(monkeypatch: pytest.MonkeyPatch, word: str, meant: str) -> None:
    """What was on or off before there were three."""
    monkeypatch.setenv("BREADCRUMBS_ACCESS_LOG", word)

    assert Settings().access_log == meant


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BATCH", "0"),
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("DEADLINE", "-1"),
        ("QUEUE", "many"),
        ("ACCESS_LOG", "some"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """With the value that came."""
    monkeypatch.setenv(f"BREADCRUMBS_{name}", value)
    with pytest.raises(ValidationError) as refusal:
        Settings()
    (error,) = refusal.value.errors()

    assert (error["loc"], str(error["input"])) == ((name.lower(),), value)


def test_settings_do_not_change_after_they_were_read() -> None:
    """They are frozen."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # that it cannot be set is the point
