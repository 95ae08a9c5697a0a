"""The wheel, built and installed, works in a project that has folders of its own named models, training and serving."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SOURCES = ("breadcrumbs", "models", "training", "serving")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".ico", ".npz")
"""Suffixes of pictures; an archive of arrays has some too."""
SCRIPT = """
import sys
from pathlib import Path

from breadcrumbs import Client

with Client(sys.argv[1]) as client:
    print(client.predict([Path(sys.argv[2])], top_k=1).predictions[0].classes[0].name)
    stored = client.put_snapshot(Path(sys.argv[3])).sha256
    done = client.wait(client.refit([stored]).id)
    print(done.state, done.error, None if done.verdict is None else done.verdict.head)
"""
"""What a user writes: a prediction and a refit."""
TYPED = """
import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from breadcrumbs import AsyncClient, Client

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
"""What a type checker finds in it: four types, and two errors."""


class Environment:
    """An environment that the wheel is installed in, and a project in whose folder it is used."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.python, self.command = folder / "bin" / "python", folder / "bin" / "breadcrumbs"
        self.project = project
        self.packages = next((folder / "lib").glob("python3.*/site-packages"))
        # Neither the checkout's path nor what was set for the tests reaches the programs.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BREADCRUMBS"))}
        self.variables = kept | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}

    def run(self, *line: str | Path) -> str:
        """Run a program in the project's folder and return what it prints."""
        done = subprocess.run(line, cwd=self.project, env=self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, and that from a copy: setuptools writes beside what it builds from."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", *(SOURCES if name == "breadcrumbs" else ()))
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for link in SOURCES[1:]:
        (folder / "source" / "breadcrumbs" / link).symlink_to(f"../{link}")
    for file in ("pyproject.toml", "README.md", "LICENSE", "REUSE.toml"):
        shutil.copy(ROOT / file, folder / "source")
    sdist = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"]
    subprocess.run(sdist, cwd=folder / "source", capture_output=True, check=True)
    (packed,) = folder.glob("*.tar.gz")
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    line += ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(packed)]
    subprocess.run(line, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the wheel; its dependencies are the ones that the tests have."""
    folder = tmp_path_factory.mktemp("installed")
    project = folder / "project"
    for file in ("models/__init__.py", "training.py", "serving/__init__.py"):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(f'raise SystemExit("imported {file} of the project")\n')
    venv.create(folder / "venv", symlinks=True)
    made = Environment(folder / "venv", project)
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made.python), "install"]
    subprocess.run([*line, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # Only the folders: the .pth files inside them, which lead to the checkout, are not read.
    borrowed = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (made.packages / "borrowed.pth").write_text("\n".join(borrowed))
    return made


@pytest.fixture(scope="module")
def url(installed: Environment) -> Iterator[str]:
    """The URL of a server that the installed command runs, with the bundle inside the wheel."""
    line = [installed.command, "serve", "--port", "0", "--device", "cpu", "--store", "kept", "--access-log", "none"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(line, cwd=installed.project, env=installed.variables, stderr=subprocess.PIPE, text=True)
        )
        stack.callback(server.terminate)
        assert server.stderr is not None
        said = ""
        for line_said in server.stderr:
            said += line_said
            if found := re.search(r"http://\S+:\d+", line_said):
                yield found[0]
                break
        else:
            pytest.fail(f"the server did not start: {said}")


def files(folder: str, ends: Sequence[str]) -> set[str]:
    """The files with these endings below a folder of the checkout."""
    found = (path for end in ends for path in (ROOT / folder).rglob(f"*{end}") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_has_the_packages_and_their_data(wheel: Path) -> None:
    """Every module, the demo bundle, the console, the embedded images; nothing at top level but `breadcrumbs`."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    inside = {name.removeprefix("breadcrumbs/") for name in names if name.startswith("breadcrumbs/")}
    expected = {name for folder in SOURCES[1:] for name in files(folder, [".py"])}
    expected |= {name.removeprefix("breadcrumbs/") for name in files("breadcrumbs", [".py"])}
    expected |= files("models/demo", [""])
    expected |= files("serving/console", [""]) | files("training/data/embedded", [".npz", ".fashion-mnist"])

    assert {name.partition("/")[0] for name in names} == {"breadcrumbs", f"{wheel.stem.split('-py3')[0]}.dist-info"}
    assert "py.typed" in inside
    assert expected - inside == {"training/data/embedded/build.py"}
    assert {name.rpartition("/")[0].replace("/", ".") for name in names if name.endswith("/__init__.py")} == set(
        PROJECT["tool"]["setuptools"]["packages"]
    )
    assert "breadcrumbs = breadcrumbs.cli:main" in points


def test_every_picture_in_the_wheel_has_a_source_and_a_licence(wheel: Path) -> None:
    """By the list in the wheel, with the licences' texts beside it; so has every other picture of the repository."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{wheel.stem.split('-py3')[0]}.dist-info/licenses"
        listed = tomllib.loads(archive.read(f"{info}/REUSE.toml").decode())["annotations"]
        texts = [archive.read(name).decode() for name in names if name.startswith(info) and "LICENSE" in name]
        told = archive.read(f"{info.partition('/')[0]}/METADATA").decode()
    patterns = [path for one in listed for path in ([one["path"]] if isinstance(one["path"], str) else one["path"])]
    licences = {one["SPDX-License-Identifier"] for one in listed}
    inside = {name.removeprefix("breadcrumbs/") for name in names if Path(name).suffix in PICTURES}
    others = {name for folder in ("docs/img", "tests") for name in files(folder, PICTURES)}

    assert {"serving/console/icon.svg", "models/demo/samples/0-0.png"} < inside
    for picture in sorted(inside | others):
        assert any(PurePosixPath(picture).match(pattern) for pattern in patterns), f"REUSE.toml has no {picture}"
    for pattern in patterns:
        assert list(ROOT.glob(pattern)), f"REUSE.toml: nothing is at {pattern}"
    assert all(one["SPDX-FileCopyrightText"] for one in listed)
    assert licences == {"Apache-2.0", "MIT", "Apache-2.0 AND MIT"}
    assert [title for title in ("Apache License", "The MIT License") if not any(title in text for text in texts)] == []
    assert "License-Expression: Apache-2.0 AND MIT\n" in told


def test_the_client_is_imported_without_torch(installed: Environment) -> None:
    """`breadcrumbs` is the installed one, and neither it nor its clients load torch or the project's modules."""
    told = installed.run(
        installed.python, "-c", "import sys, breadcrumbs\n"
        "from breadcrumbs import AsyncClient, Client, InputError, ServerError\n"
        "print(breadcrumbs.__file__, Client.__name__, AsyncClient.__name__)\n"
        "print({'torch', 'models', 'training', 'serving'} & set(sys.modules))",
    )  # fmt: skip

    assert told.splitlines() == [f"{installed.packages}/breadcrumbs/__init__.py Client AsyncClient", "set()"]


@pytest.mark.parametrize("start", ["module", "command", "torchrun"])
def test_the_command_line_starts(installed: Environment, start: str) -> None:
    """As a module, as the installed command, and in torchrun's processes as docs/training.md starts it."""
    torchrun = [installed.python, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "breadcrumbs", "train"]
    module = [installed.python, "-m", "breadcrumbs"]
    line = {"module": module, "command": [installed.command], "torchrun": torchrun}[start]

    assert ("--recipe" if start == "torchrun" else "refit") in installed.run(*line, "--help")


def test_a_server_predicts_and_refits(installed: Environment, url: str) -> None:
    """A user's script gets an answer and a refit, whose child process starts in the project's folder too."""
    demo = installed.packages / "breadcrumbs" / "models" / "demo"
    (installed.project / "use.py").write_text(SCRIPT)
    snapshot = max((demo / "snapshots").iterdir())

    told = installed.run(installed.python, "use.py", url, demo / "samples" / "9-0.png", snapshot)

    assert told.splitlines() == ["ankle-boot", "succeeded None 2"]


def test_users_scripts_are_checked_against_the_client(installed: Environment) -> None:
    """Strict mypy finds the types of answers, takes every kind of image, and finds the wrong arguments."""
    (installed.project / "use.py").write_text(SCRIPT)
    (installed.project / "typed.py").write_text(TYPED)
    line = [installed.python, "-m", "mypy", "--strict", "use.py", "typed.py"]
    done = subprocess.run(
        line, cwd=installed.project, env=installed.variables, capture_output=True, text=True, check=False
    )

    wrong = [f"typed.py:{number}" for number, text in enumerate(TYPED.splitlines(), 1) if "# ERROR" in text]
    errors = [line.partition(": ")[0] for line in done.stdout.splitlines() if " error: " in line]
    assert errors == wrong, done.stdout + done.stderr
    revealed = [line.partition('Revealed type is "')[2] for line in done.stdout.splitlines() if "Revealed" in line]
    assert len(revealed) == 4
    assert revealed[0].startswith(("str", "builtins.str"))
    assert "ndarray" in revealed[1]
    assert "float" in revealed[1]
    assert "float" in revealed[3]
