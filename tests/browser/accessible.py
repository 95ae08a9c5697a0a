"""What axe finds on a page, by the rules of WCAG 2 and its own; its script comes in a package, nothing is fetched."""

import importlib.util
import json
from functools import cache
from pathlib import Path

from playwright.sync_api import Page

RUN = (
    "async () => JSON.stringify((await axe.run(document, { resultTypes: ['violations'], iframes: false })).violations)"
)


@cache
def _script() -> str | None:
    """Axe itself; None where it is not installed."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        return None
    return (Path(found.origin).parent / "axe.min.js").read_text("utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe finds, a line for each element: the rule and the element; empty where axe is not installed."""
    script = _script()
    if script is None:
        return []
    page.evaluate(script)
    found = json.loads(page.evaluate(RUN))
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]
