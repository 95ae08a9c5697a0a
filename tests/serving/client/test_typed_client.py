"""What an installation ships: the types of the client, as a checker of a user's own project sees them."""

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = """
import sys
from setuptools import Distribution
made = Distribution({"script_name": "setup.py"})
made.parse_config_files()
made.include_package_data = False  # which would write beside the sources
building = made.get_command_obj("build_py")
building.build_lib = sys.argv[1]
building.ensure_finalized()
building.run()
"""
SCRIPT = """
import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client

with Client("http://localhost:8000") as client:
    one = client.predict("a.jpg").predictions[0].classes[0]
    reveal_type(one.name)
    client.predict(Path("a.jpg"), top_k=2)
    client.predict(b"")
    client.predict(Image.new("RGB", (2, 2)))
    client.predict(np.zeros((2, 2, 3), np.uint8))
    client.predict(["a", Path("b"), b"c", np.zeros((2, 2), np.uint8)])
    client.predict(Path("photos").iterdir())
    with open("a.jpg", "rb") as file:
        client.predict(file)
    rows: NDArray[np.float32] = client.features(["a.jpg"]).features
    reveal_type(rows)
    client.put_snapshot(Path("x"))
    reveal_type(client.heads().live)
    client.predict(7)  # ERROR
    client.predict("a.jpg", tops=3)  # ERROR


async def main() -> None:
    async with AsyncClient("http://localhost:8000") as client:
        reveal_type((await client.features("a.jpg")).features)


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what `pip install` would copy, and this one's packages."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))
    own = [path for path in sys.path if path.endswith("-packages")]
    (packages / "beside.pth").write_text("\n".join(own) + "\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(packages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return packages


def test_every_package_is_marked_as_typed(installed: Path) -> None:
    """`py.typed` is beside the modules of each top-level package that is installed."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tops = {name.split(".")[0] for name in named}

    assert tops
    for top in tops:
        assert (installed / top / "py.typed").is_file(), top
        assert (installed / top / "__init__.py").is_file() or list((installed / top).glob("*.py")), top


@pytest.mark.slow
def test_a_users_script_is_checked_against_the_client(installed: Path, tmp_path: Path) -> None:
    """Strict mypy finds the types of answers, takes every kind of image, and finds the wrong arguments."""
    (tmp_path / "script.py").write_text(SCRIPT)
    python = installed.parents[2] / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "script.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    wrong = [number for number, line in enumerate(SCRIPT.splitlines(), 1) if "# ERROR" in line]
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == wrong, done.stdout + done.stderr
    revealed = [line.partition('Revealed type is "')[2] for line in done.stdout.splitlines() if "Revealed" in line]
    assert len(revealed) == 4
    assert revealed[0].startswith(("str", "builtins.str"))
    assert "ndarray" in revealed[1]
    assert "float" in revealed[1]
    assert "float" in revealed[3]
