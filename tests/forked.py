"""Command lines in processes that are forked from one where everything is imported, which most of their time goes to.

Each is a process of its own, with its own arguments, environment, folder and output, as a user's. What depends on how
Python starts, or on what a command does not import, is tested with `python -m breadcrumbs`.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from patience import PATIENCE

ROOT = Path(__file__).parents[1]
IMPORTED = ["breadcrumbs.cli", "breadcrumbs.training.run.fit", "breadcrumbs.serving.app", "timm"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(IMPORTED)


def command(
    *arguments: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line; without an environment, in one that only knows that lines are long."""
    with tempfile.TemporaryDirectory() as outputs:
        out, err = Path(outputs, "out"), Path(outputs, "err")
        given = {"COLUMNS": "200"} if environment is None else dict(environment)
        process = SERVER.Process(target=_become, args=(arguments, folder, given, out, err))
        process.start()
        process.join(PATIENCE)
        status = process.exitcode
        process.kill()
        assert status is not None, f"{arguments} did not end within {PATIENCE:g} s"
        return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())


def _become(arguments: Sequence[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """Be `breadcrumbs` with these arguments."""
    from breadcrumbs.cli import main

    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["breadcrumbs", *arguments]
    main()
