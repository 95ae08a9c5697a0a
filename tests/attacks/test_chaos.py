"""Everything at once, in short; `make chaos` is the long form."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_is_wrong_or_lost_while_everything_happens() -> None:
    """Load, labels, refits, swaps, trials, lines, kill -9 of child and server, damage, a full disk where it may be."""
    line = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--seconds", "12"]
    done = subprocess.run(
        line,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert re.search(r"requests: \d{3,} sent, \d{3,} answered, 0 wrong", done.stdout), done.stdout
    assert "lost: 0; remembered with another head: 0" in done.stdout
    assert re.search(r"[1-9]\d* trials, ", done.stdout), done.stdout
    assert re.search(r"[1-9]\d* labels, [1-9]\d* answers; lost", done.stdout), done.stdout
    assert re.search(r"lines: \d+, \d{2,} answers; by a head that was never live there: 0; not found: 0", done.stdout)
    acts = "upload refit label label_answer activate create_line activate_line kill kill_child damage damage_log"
    for act in f"{acts} damage_line_log".split():
        assert f"'{act}': " in done.stdout, (act, done.stdout)
    assert "'rollback" in done.stdout  # it may be refused: where the swaps before led nowhere
    assert "no right to fill a disk" in done.stdout or "'disk full: 507': " in done.stdout, done.stdout
    assert re.search(r"killed [1-9]\d* times; .*other damage: 0", done.stdout), done.stdout
