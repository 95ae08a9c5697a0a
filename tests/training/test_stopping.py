"""SIGTERM to `breadcrumbs train`, at any time, with worker processes and without: as Ctrl-C, and 143."""

import os
import signal
from pathlib import Path

import pytest
from forked import started
from small_run import SIDE

from breadcrumbs.commands.train import tell_stopped
from breadcrumbs.training.stopping import STATUS, Terminated, stoppable

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("when", ["from epoch 1 of", "epoch 2/100000"])
def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(
    images: Path, tmp_path: Path, workers: str, group: bool, when: str
) -> None:
    """Sent to the process or to its whole group, before the first epoch or later: two words of advice and 143."""
    out = tmp_path / "out"
    line = ["train", "--recipe", "demo", "--data", str(images), "--out", str(out), "--workers", workers]
    line += ["--size", str(SIDE), "--batch-size", "8", "--epochs", "100000"]
    with started(*line) as program:
        program.tells(lambda told: when in told)
        (os.killpg if group else os.kill)(program.pid, signal.SIGTERM)

        assert program.wait() == 143
        assert program.err.endswith(f"stopped; continue with: breadcrumbs train --resume --out {out}\n")
        assert "Traceback" not in program.err
    assert (out / "checkpoint.pt").exists()


def test_a_run_stopped_before_its_first_checkpoint_has_nothing_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a checkpoint the command says to start again; with one it names the command, quoted for a shell."""
    folder = tmp_path / "my runs"
    folder.mkdir()

    tell_stopped(folder)
    (folder / "checkpoint.pt").touch()
    tell_stopped(folder)

    first, second = capsys.readouterr().err.splitlines()
    assert first == "stopped before the first checkpoint; start again with the same command"
    assert second == f"stopped; continue with: breadcrumbs train --resume --out '{folder}'"


def test_the_handler_goes_when_it_is_done() -> None:
    """Within, SIGTERM raises `Terminated`; afterwards whatever was there is there again."""
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(Terminated), stoppable():
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before
    assert STATUS == 143


def test_an_error_that_sigterm_caused_is_sigterm() -> None:
    """What fails because of it, such as a worker that was ended too, is not told as an error of its own."""

    def callback() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise RuntimeError("it made another error of it") from None

    with pytest.raises(Terminated), stoppable():
        callback()


def test_other_errors_stay_what_they_are() -> None:
    """Without SIGTERM nothing is changed."""
    with pytest.raises(ZeroDivisionError), stoppable():
        raise ZeroDivisionError
