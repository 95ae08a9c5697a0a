"""How far long work is, in a log and at a terminal."""

import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from breadcrumbs.training.terminal.bars import Lines, bar, step, track

ROOT = Path(__file__).parents[3]


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """None for two seconds, then one every ten; also where one piece of work follows another."""
    now = 0.0
    monkeypatch.setattr(Lines, "said", -math.inf)  # all share it; another test may have said something
    lines = Lines("verify", lambda: now)
    for tick in range(30):
        now = float(tick)
        lines(tick, 100 if tick < 20 else None)

    more = Lines("next", lambda: now)
    for tick in (30, 31, 32):
        now = float(tick)
        more(1, 2)

    said = capsys.readouterr().err.splitlines()
    assert said == ["verify: 2 of 100", "verify: 12 of 100", "verify: 22", "next: 1 of 2"]


def test_tracking_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The items come as they are; quick work is not worth a line, and nothing goes to standard output."""
    assert list(track("abc", 3, "letters")) == ["a", "b", "c"]
    with bar("nothing", show=False) as told:
        told(1, 2)

    assert capsys.readouterr() == ("", "")


def test_a_step_is_named_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """At its beginning."""
    with step("export"):
        assert capsys.readouterr().err == "export …\n"


def test_a_terminal_gets_a_bar() -> None:
    """On standard error, and it is taken away at the end."""
    code = (
        "from breadcrumbs.training.terminal.bars import track\n"
        "for x in track(range(3), 3, 'looking'): pass\n"
        "print('done')"
    )
    printed, shown = at_a_terminal(code)

    assert printed == "done\n"
    assert "looking" in shown
    assert "3/3" in shown
    assert "\x1b[2K" in shown


def test_an_upload_is_told_in_bytes_and_a_refit_in_stages() -> None:
    """One bar for both, one after the other."""
    code = "from breadcrumbs.training.terminal.refit_events import telling\nwith telling(as_json=False) as tell:\n"
    code += "    tell({'event': 'upload', 'file': 'looks', 'bytes': 1500000, 'of': 3000000})\n"
    code += "    tell({'event': 'stage', 'stage': 'refit x'})\n"
    code += "    tell({'event': 'stage', 'stage': 'solve'})\n"
    code += "    tell({'event': 'progress', 'iteration': 7, 'gradient_norm': 0.5, 'l2': 0.01})"
    _, shown = at_a_terminal(code)

    assert "solve" in shown
    assert "3/8" in shown
    assert "iteration 7" in shown


def at_a_terminal(code: str) -> tuple[str, str]:
    """What a program prints, and what it shows on a terminal."""
    reader, writer = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "150", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, stderr=writer, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    return done.stdout, shown
