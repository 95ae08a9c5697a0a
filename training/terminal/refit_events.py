"""A refit's events as they arrive: JSON lines for a program, a bar at a terminal, a few lines in a log.

It knows nothing of whether the refit runs here or on a server.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

STAGES = ("read", "transfer", "solve", "evaluate", "certificate", "report")

Tell = Callable[[dict[str, Any]], None]
Json = Annotated[bool, Parameter(negative=(), show_default=False)]
"""The flag `--json` of a command."""


@contextlib.contextmanager
def telling(*, as_json: bool) -> Iterator[Tell]:
    """Show a refit's events and remove the bar at the end; yield the function that takes the events."""
    if as_json:
        yield tell_json
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        more = TextColumn("{task.fields[more]}")
        with Progress(*columns, more, transient=True, console=Console(stderr=True)) as bar:
            task = bar.add_task("refit", total=len(STAGES), more="")

            def show(event: dict[str, Any]) -> None:
                stage = _title(event)
                if stage in STAGES:
                    bar.update(task, description=stage, completed=STAGES.index(stage), more="")
                elif stage:
                    bar.update(task, description=stage, completed=0, total=len(STAGES), more="")
                if event["event"] == "upload":
                    done, whole = event["bytes"], event["of"]
                    bar.update(task, description=event["file"], completed=done, total=whole, more=_bytes(event))
                if event["event"] == "progress":
                    bar.update(task, more=_step(event))

            yield show


def tell_json(event: dict[str, Any]) -> None:
    """Print an event as one line of JSON."""
    print(json.dumps(event), flush=True)  # noqa: T201


class _Lines:
    """Prints a line for each stage, each tenth of an upload, and the solver's last iteration before the next stage."""

    def __init__(self) -> None:
        self._last = ""
        self._tenth = ("", 0)

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "upload":
            tenth = (event["file"], 10 * event["bytes"] // event["of"])
            if tenth != self._tenth:
                self._tenth = tenth
                print(f"  {event['file']}: {_bytes(event)}", file=sys.stderr, flush=True)  # noqa: T201
            return
        if event["event"] == "progress":
            self._last = _step(event)
            return
        for line in (f"  {self._last}" if self._last else "", _title(event)):
            if line:
                print(line, file=sys.stderr, flush=True)  # noqa: T201
        self._last = ""


def _title(event: dict[str, Any]) -> str:
    return str(event.get("stage") or event.get("state") or "")


def _bytes(event: dict[str, Any]) -> str:
    return f"{event['bytes'] / 1e6:.1f} of {event['of'] / 1e6:.1f} MB"


def _step(event: dict[str, Any]) -> str:
    numbers = f"iteration {event['iteration']}: gradient norm {event['gradient_norm']:.2e}"
    return f"λ {event['l2']:g}, {numbers}" if "l2" in event else numbers
