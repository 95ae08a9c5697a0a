"""Renders report pages: one HTML file with its style, its pictures and one script inside, which sorts and searches.

`templates/` has the pages. Every value is escaped when it is written, so a class called `<script>` is only a name, and
no script runs but the one whose digest the page's policy names. This module knows nothing of what a page says;
`run_page` and `refit_page` do.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
STYLE, SCRIPT = ((TEMPLATES / name).read_text("utf-8") for name in ("style.css", "tables.js"))
SCRIPT_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
"""The script of the pages, as a policy names it."""
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {SCRIPT_SOURCE}"
"""The page's Content-Security-Policy: its own pictures, style and script, nothing from another address."""

MEANING = {
    "all": "share of images whose top class is right",
    "balanced": "mean over the classes of their recall",
    "many": "the same over the many-shot classes",
    "medium": "the same over the medium-shot classes",
    "few": "the same over the few-shot classes",
    "harmonic": "harmonic mean of the classes’ recalls",
    "worst": "lowest recall of a class",
    "macro_f1": "mean over the classes of their F1",
    "ece": "expected calibration error of the top class",
    "nll": "mean negative log-likelihood, nats",
}
SHARES = set(MEANING) - {"nll"}


class Interval(Protocol):
    """A measured value and the two ends of its 95 % interval."""

    @property
    def value(self) -> float: ...  # noqa: D102

    @property
    def low(self) -> float: ...  # noqa: D102

    @property
    def high(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Picture:
    """The words around one picture of a page.

    Attributes:
        name: of its file, and of its place in the page.
        heading: above it.
        alt: what it shows, for readers who cannot see it.
        reading: how to read it.
        absent: the sentence in its place, if it cannot be drawn.
    """

    name: str
    heading: str
    alt: str
    reading: str
    absent: str


def render(template: str, title: str, **values: Any) -> bytes:
    """Return a page.

    Args:
        template: file name of the page's template.
        title: of the page.
        values: what the template shows, as text or data; it is escaped.
    """
    page = (
        _environment().get_template(template).render(title=title, policy=POLICY, style=STYLE, script=SCRIPT, **values)
    )
    return page.encode()


def fragment(template: str, **values: Any) -> "Markup":
    """Return a part of a page, which a page's template shows as it is.

    Args:
        template: file name of the part's template.
        values: what the template shows, as text or data; it is escaped.
    """
    from markupsafe import Markup

    # what Jinja2 escaped is not escaped again
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704


@cache
def _environment() -> "Environment":
    # Imported here, since the server needs this module's policy and style, and is installed without Jinja2.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
    )  # fmt: skip
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode(),
        "interval": interval,
        "meaning": lambda name: MEANING.get(name, ""),
        "metric": metric,
        "metric_names": _metric_names,
        "percent": percent,
        "points": points,
        "setting": _setting,
        "thousands": "{:,}".format,
    }
    return environment


def printable(words: str) -> str:
    """Return a text that HTML can hold: white space becomes a space, other unprintable characters become `�`."""
    if words.isprintable():  # as a picture in base64 is, of millions of letters
        return words
    return "".join(
        c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd" for c in words
    )  # the two exceptions join letters, and some scripts need them


def metric(value: object, name: str) -> str:
    """Return a metric as text, a share in percent; a dash for what is not a number."""
    if not isinstance(value, int | float):
        return "–"
    return percent(value) if name in SHARES else f"{value:.4g}"


def interval(ends: Interval | None, name: str) -> str:
    """Return the interval of a metric as text; empty if there is none."""
    if ends is None:
        return ""
    low, high = (f"{100 * end:.1f}" if name in SHARES else f"{end:.4g}" for end in (ends.low, ends.high))
    return f"({low} – {high})"


def percent(value: float | None) -> str:
    """Return a share as text, in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f} %"


def points(change: Interval) -> str:
    """Return a change of a share and its interval as text, in percentage points."""
    value, low, high = (100 * end for end in (change.value, change.low, change.high))
    return f"{value:+.1f}; {low:+.1f} … {high:+.1f}".replace("-", "−")


def _metric_names(heads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that any head has, lists left out, in the order of their first appearance."""
    return list(
        dict.fromkeys(
            name
            for metrics in heads.values()
            for name, value in metrics.items()
            if value is None or isinstance(value, int | float)
        )
    )


def _setting(value: Any) -> str:
    """A setting as text, from a JSON value."""
    value = _without_paths(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _without_paths(value: Any) -> Any:
    """The value with only the last part of every absolute path: a report is passed on, a home folder is not."""
    if isinstance(value, Mapping):
        return {key: _without_paths(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(own) for own in value]
    if isinstance(value, str | Path):
        words = str(value)
        for path in (PurePosixPath(words.removeprefix("file://")), PureWindowsPath(words)):
            if path.is_absolute() or words.startswith("~"):
                return f"…/{path.name}"
        return words
    return value
