"""The real refit, which kills itself at a named step: `kill -9` as it tells a stage or its end, or has written a file.

python crashing_refit.py FILE … ; what FILE holds is the step, the rest goes to `breadcrumbs refit`.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from breadcrumbs import cli
from breadcrumbs.commands import refit as command
from breadcrumbs.training.refit import files
from breadcrumbs.training.terminal import refit_events


def dying(function: Callable[..., None], step: str, name: Callable[..., str]) -> Callable[..., None]:
    """A function after which the process is killed, where `name` says that its arguments are the step."""

    def call(*arguments: Any) -> None:
        function(*arguments)
        if name(*arguments) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return call


def main(step: str) -> None:
    """Refit until it dies."""
    refit_events.tell_json = dying(refit_events.tell_json, step, lambda event: str(event.get("stage", event["event"])))
    command.tell_json = dying(command.tell_json, step, lambda event: str(event["event"]))
    files.write_whole = dying(files.write_whole, step, lambda path, _: path.name)
    cli.main()


if __name__ == "__main__":
    asked = Path(sys.argv.pop(1)).read_text()
    sys.argv.insert(1, "refit")
    main(asked)
