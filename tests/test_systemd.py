"""The unit for systemd, read by systemd's own tools where they are, and compared with the server."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from breadcrumbs import cli
from breadcrumbs.serving.app import GRACE
from breadcrumbs.serving.settings import Settings

UNIT = Path(__file__).parents[1] / "deploy/systemd/breadcrumbs.service"
EXPOSURE = 20
"""Tenths: what `systemd-analyze security` may find at most; 100 is a service without any protection."""
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


def entries(text: str) -> list[tuple[str, str, str]]:
    """Section, name and value of every line that is no comment."""
    section, found = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found.append((section, name, value))
    return found


def one(name: str) -> str:
    """The value of a name that occurs once."""
    (value,) = [value for _, key, value in entries(UNIT.read_text()) if key == name]
    return value


def examine(text: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Let systemd examine a unit, whose program it wants to find."""
    path = folder / UNIT.name
    path.write_text(text.replace(shlex.split(one("ExecStart"))[0], sys.executable))
    return subprocess.run(["systemd-analyze", *command, str(path)], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Every line of it, without a word; and a line that it does not know is one."""
    verify = ("verify", "--man=no", "--recursive-errors=no")
    good, bad = (
        examine(UNIT.read_text() + more, tmp_path, *verify) for more in ("", "[Service]\nProtectSystems=yes\n")
    )

    assert (good.returncode, good.stderr) == (0, "")
    assert "ProtectSystems" in bad.stderr


@needs_systemd
def test_systemd_finds_little_exposed(tmp_path: Path) -> None:
    """Less than two of ten, where a unit without these lines has more than nine."""
    ask = ("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}")
    bare = "\n".join(
        line for line in UNIT.read_text().splitlines() if not line.startswith(("Protect", "Restrict", "Cap"))
    )
    good, bad = (examine(text, tmp_path, *ask) for text in (UNIT.read_text(), bare))

    assert good.returncode == 0, good.stdout[-200:]
    assert bad.returncode != 0


def test_the_server_takes_the_units_flags() -> None:
    """Through the command line's own parser: addresses, keys and a store that systemd makes."""
    _, *words = shlex.split(one("ExecStart"))
    _, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    (settings,) = bound.args or bound.kwargs.values()

    assert isinstance(settings, Settings)
    assert settings.store == f"/var/lib/{one('StateDirectory')}"
    assert (settings.host, settings.insecure) == ("0.0.0.0", False)
    assert settings.keys is not None


def test_the_unit_leaves_the_time_to_drain() -> None:
    """More than the server's own grace, before anything is killed; and only the server is told to stop."""
    assert int(one("TimeoutStopSec")) >= GRACE + 10
    assert one("KillMode") == "mixed"


def test_the_unit_may_write_to_its_store_alone() -> None:
    """As a user of its own, without any capability."""
    assert one("ProtectSystem") == "strict"
    assert one("CapabilityBoundingSet") == one("AmbientCapabilities") == ""
    assert one("User") == "breadcrumbs"
    assert not [name for _, name, _ in entries(UNIT.read_text()) if name == "ReadWritePaths"]
