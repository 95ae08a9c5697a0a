"""A page that needs nothing beside it: one HTML file with its style and pictures inside, and nothing that can act.

Whatever is shown passes through `text`, so a class called `<script>` is a name. It knows nothing of what a page tells;
`training.report.run_page` and `training.report.refit_page` do.
"""

import base64
import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page's Content-Security-Policy: its own pictures and style, no script, nothing from anywhere."""

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

Ends = tuple[float, float]
"""The two ends of an interval."""


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its file name, its heading, what it shows, how to read it, what is missing without."""

    name: str
    heading: str
    alt: str
    reading: str
    absent: str


def document(title: str, sections: Iterable[str]) -> bytes:
    """Return the page: its title as a heading, and below it sections that are HTML already."""
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{text(title)}</h1>
{body}
</main>
</body>
</html>
""".encode()


def section(heading: str, *parts: str) -> str:
    """A heading and what is below it, HTML already."""
    return "\n".join(("<section>", f"<h2>{text(heading)}</h2>", *parts, "</section>"))


def facts(named: Iterable[tuple[str, str]]) -> str:
    """The numbers that a reader wants first: name and value, as text."""
    items = "\n".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in named)
    return f"<dl>\n{items}\n</dl>"


def note(words: str) -> str:
    """A sentence where something would be."""
    return f'<p class="note">{text(words)}</p>'


def figure(picture: Picture, svg: bytes | None) -> str:
    """A picture with its heading and how to read it; without the picture, what is missing."""
    if svg is None:
        body = note(picture.absent)
    else:
        data = base64.b64encode(svg).decode()
        image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text(picture.alt)}">'
        body = f"<figure>\n{image}\n<figcaption>{text(picture.reading)}</figcaption>\n</figure>"
    return f'<section id="{picture.name}">\n<h2>{text(picture.heading)}</h2>\n{body}\n</section>'


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], kind: str) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def measured(value: object, interval: Ends | None, name: str) -> tuple[str, str]:
    """A metric and its interval, as text; shares in percent."""
    if not isinstance(value, int | float):
        return "–", ""
    percent = name in SHARES
    words = f"{100 * value:.1f} %" if percent else f"{value:.4g}"
    if interval is None:
        return words, ""
    low, high = (f"{100 * v:.1f}" if percent else f"{v:.4g}" for v in interval)
    return words, f"({low} – {high})"


def metrics_table(heads: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Ends]]) -> str:
    """A table of every metric of every head, with its 95 % interval where there is one."""
    names = dict.fromkeys(name for found in heads.values() for name, value in found.items() if _scalar(value))

    def cell(head: str, name: str) -> str:
        words, ends = measured(heads[head].get(name), intervals.get(head, {}).get(name), name)
        return f"{text(words)}<small>{text(ends)}</small>"

    rows = [
        (f"{text(name)}<small>{text(MEANING.get(name, ''))}</small>", *(cell(head, name) for head in heads))
        for name in names
    ]
    if not rows:
        return note("No head was measured.")
    hint = "<p>In brackets the 95 % bootstrap interval, where there is one.</p>" if intervals else ""
    return table(("metric", *map(text, heads)), rows, "numbers") + hint


def share(value: float | None) -> str:
    """A share as text, in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def settings(named: Mapping[str, Any]) -> str:
    """A table of settings, JSON values; of an absolute path only the last part is shown."""
    return table(("setting", "value"), [(text(k), text(_setting(v))) for k, v in named.items()], "config")


def _setting(value: Any) -> str:
    """A setting as text."""
    value = _without_paths(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _without_paths(value: Any) -> Any:
    """The value with the last part alone of every absolute path: a report is passed on, a home folder is not."""
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


def text(words: str) -> str:
    """Text that is safe in HTML, in an attribute too; what is no letter, a broken one included, becomes `�`."""
    whole = (c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd" for c in words)
    return html.escape("".join(whole))


STYLE = """
:root { --ink: #1d2127; --soft: #59616c; --paper: #ffffff; --line: #dfe3e8; --tint: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #a2aab5; --paper: #141414; --line: #343a42; --tint: #1d2126; }
  figure img { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.75rem; }
p, figcaption { color: var(--soft); max-width: 44rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.9rem 1.5rem; }
dt, small, figcaption { font-size: 0.875rem; }
dt, small { color: var(--soft); }
small { display: block; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: 0.5rem; }
.note { background: var(--tint); border-radius: 6px; padding: 0.75rem 1rem; }
.verdict { background: var(--tint); border-left: 4px solid var(--soft); border-radius: 6px; padding: 0.1rem 1rem; }
.verdict.yes { border-color: #2e7d4f; }
.verdict.no { border-color: #b3261e; }
.verdict p, .verdict li { color: var(--ink); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 1rem 0.4rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
td:first-child { overflow-wrap: anywhere; min-width: 8rem; }
.numbers td:not(:first-child) { white-space: nowrap; }
.config td:last-child { overflow-wrap: anywhere; }
"""
