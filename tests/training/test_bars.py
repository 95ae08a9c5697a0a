"""How far long work is, in a log and at a terminal."""

import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from training.bars import Lines, bar, step, track

ROOT = Path(__file__).parents[2]


def test_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """None for two seconds, then one every ten; also where one piece of work follows another."""
    now = 0.0
    monkeypatch.setattr(Lines, "said", -math.inf)
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
    code = "from training.bars import track\nfor x in track(range(3), 3, 'looking'): pass\nprint('done')"
    reader, writer = pty.openpty()
    line = [sys.executable, "-c", code]
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, stderr=writer, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    os.close(writer)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)

    assert done.stdout == "done\n"
    assert "looking" in shown
    assert "3/3" in shown
    assert "\x1b[2K" in shown
