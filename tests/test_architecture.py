"""The house rules that a program can read: who may import whom, and what names are not allowed."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("models", "training", "serving")
VAGUE = {"utils", "util", "common", "base", "core", "manager", "factory", "handler", "helper", "helpers"}


def sources(floor: str) -> list[Path]:
    """Every module of a package."""
    return sorted((ROOT / floor).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also inside functions."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("floor", "above"), [("models", ("training", "serving")), ("training", ("serving",))])
def test_imports_point_one_way(floor: str, above: tuple[str, ...]) -> None:
    """Models knows nothing of training, training nothing of serving; neither knows the command line."""
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(floor)
        for name in imported(path)
        if name.split(".")[0] in (*above, "breadcrumbs")
    }

    assert sources(floor)
    assert not wrong


def test_no_circle() -> None:
    """No module imports, over any number of others, itself."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for floor in FLOORS for path in sources(floor)
    }
    graph = {name: {other for other in imported(path) if other in modules} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())

    assert len(done) == len(modules) > 30


def test_only_settings_reads_the_environment() -> None:
    """No module but the settings, and what tells of slips in their names; one command looks for torchrun's rank."""
    reading = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }

    assert reading <= {"serving/settings.py", "serving/environment.py", "training/commands.py"}


def test_only_the_cluster_imports_ray() -> None:
    """Ray is an extra: without it everything else works, the commands of the cluster's included."""
    importing = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if any(name.split(".")[0] == "ray" for name in imported(path))
    }

    parts = ("application", "connection", "replica", "refit_task", "refits")
    assert importing == {f"serving/cluster/{name}.py" for name in parts} | {"serving/commands/cluster.py"}  # for types


def test_every_package_is_installed() -> None:
    """What has modules is named in `pyproject.toml`, or an installation lacks it."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for floor in FLOORS for path in sources(floor)}

    assert set(named) == found - {"training.embedded"}  # data, and the program that made it


def test_names_say_what_a_file_is() -> None:
    """No utils, common, base, core, manager, factory, handler or helper."""
    stems = {path.stem for floor in FLOORS for path in sources(floor)}

    assert not stems & VAGUE


def test_every_module_says_what_it_does() -> None:
    """Every module that holds code begins with a docstring."""
    silent = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    }

    assert not silent


@pytest.mark.parametrize("module", ["breadcrumbs", "serving.app", "serving.client", "training.config", "training.data"])
def test_torch_stays_out_of_the_server(module: str) -> None:
    """Importing the command line, the server or what they need does not load torch."""
    code = f"import {module}, sys; print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert answer.stdout.strip() == "False"
