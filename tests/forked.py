"""Command lines in processes that are forked from one where everything is imported, which most of their time goes to.

Each is a process of its own, with its own arguments, environment, folder and output, as a user's. What depends on how
Python starts, or on what a command does not import, is tested with `python -m breadcrumbs`.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from patience import PATIENCE, soon

ROOT = Path(__file__).parents[1]
IMPORTED = ["breadcrumbs.cli", "breadcrumbs.training.run.fit", "breadcrumbs.serving.app", "timm", "onnxscript"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(IMPORTED)
MAIN = "from breadcrumbs import cli; cli.main()"


class Program:
    """A running program: its process, and what it has printed so far."""

    def __init__(self, process: BaseProcess, outputs: Path) -> None:
        self._process = process
        self._outputs = outputs

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def out(self) -> str:
        """Standard output."""
        return (self._outputs / "out").read_text()

    @property
    def err(self) -> str:
        """Standard error."""
        return (self._outputs / "err").read_text()

    @property
    def status(self) -> int | None:
        """The exit status, minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):  # its parent has reaped it, and has not told us yet
                os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        self._process.join(PATIENCE)
        assert self.status is not None, f"it did not end within {PATIENCE:g} s: {self.err}"
        return self.status

    def tells(self, found: Callable[[str], Any]) -> Any:
        """What is found in standard error, once it is there."""

        def look() -> Any:
            ended, told = self.status, self.err
            there = found(told)
            assert there or ended is None, f"it ended with status {ended}: {told}"
            return there

        return soon(look, "what a program tells")


@contextlib.contextmanager
def started(
    *arguments: str,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    code: str = MAIN,
) -> Iterator[Program]:
    """Start a command line, or other code with these arguments; at the end it is killed, if it has not ended.

    Without an environment, in one that only knows that lines are long.
    """
    with tempfile.TemporaryDirectory() as outputs:
        for name in ("out", "err"):
            Path(outputs, name).touch()
        given = {"COLUMNS": "200"} if environment is None else dict(environment)
        process = SERVER.Process(target=_become, args=(code, arguments, folder, given, Path(outputs)))
        process.start()
        try:
            yield Program(process, Path(outputs))
        finally:
            process.kill()
            process.join()


def command(
    *arguments: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None, code: str = MAIN
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, as `started` starts it."""
    with started(*arguments, folder=folder, environment=environment, code=code) as program:
        status = program.wait()
        return subprocess.CompletedProcess(arguments, status, program.out, program.err)


def _become(code: str, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], outputs: Path) -> None:
    """Be a program of this code, with these arguments."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(outputs / name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["breadcrumbs", *arguments]
    exec(code, {"__name__": "__main__"})
