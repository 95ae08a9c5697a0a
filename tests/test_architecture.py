"""The house rules that a program can read: who may import whom, and what names are not allowed."""

import ast
import functools
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("models", "training", "serving", "breadcrumbs")
"""From the lowest; the last has the command line, and links to the others."""
VAGUE = {"utils", "util", "common", "base", "core", "manager", "factory", "handler", "helper", "helpers"}


def sources(floor: str) -> list[Path]:
    """Every module of a floor."""
    links = [path for path in (ROOT / floor).iterdir() if path.is_symlink()]
    return sorted(path for path in (ROOT / floor).rglob("*.py") if not any(link in path.parents for link in links))


def module(path: Path) -> str:
    """A file's name as it is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "breadcrumbs" else ("breadcrumbs", *parts)).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere, also inside functions."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The folder on its floor that a module lies in; for one that lies in none, the module itself."""
    return "/".join(path.relative_to(ROOT).with_suffix("").parts[:2])


MODULES = {module(path): path for floor in FLOORS for path in sources(floor)}


@functools.cache
def imports() -> dict[Path, set[Path]]:
    """What each module imports of ours; read when a test asks, since every process collects all tests."""
    return {
        path: {MODULES[name] for name in imported(path) & MODULES.keys() if MODULES[name].name != "__init__.py"}
        for path in MODULES.values()
        if path.name != "__init__.py"
    }


def test_imports_point_one_way() -> None:
    """Models knows nothing of training, training nothing of serving; none of them knows the command line."""
    floor = {path: FLOORS.index(path.relative_to(ROOT).parts[0]) for path in imports()}

    assert [(path, other) for path, others in imports().items() for other in others if floor[other] > floor[path]] == []


def test_every_import_of_ours_has_the_one_name() -> None:
    """Everything is below `breadcrumbs`: a user's project may have folders of any other name."""
    wrong = {path: imported(path) & {"models", "training", "serving"} for path in imports()}

    assert {path: names for path, names in wrong.items() if names} == {}


def visit(name: str, graph: dict[str, set[str]], way: tuple[str, ...], done: set[str]) -> None:
    """Follow all arrows from a name; none may lead back."""
    assert name not in way, f"circle: {' -> '.join((*way, name))}"
    if name not in done:
        for other in sorted(graph[name]):
            visit(other, graph, (*way, name), done)
        done.add(name)


@pytest.mark.parametrize("between", ["modules", "rooms"])
def test_no_circle(between: str) -> None:
    """No module and no room imports, over any number of others, itself."""
    name = str if between == "modules" else room
    graph: dict[str, set[str]] = {name(path): set() for path in imports()}
    for path, others in imports().items():
        graph[name(path)] |= {name(other) for other in others} - ({name(path)} if between == "rooms" else set())
    done = set[str]()

    for one in graph:
        visit(one, graph, (), done)

    assert len(done) == len(graph) > 30


def test_no_folder_is_crowded() -> None:
    """A newcomer sees a folder at a glance: 25 modules at most."""
    folders = Counter(path.parent for path in imports())

    assert {str(folder): count for folder, count in folders.items() if count > 25} == {}


def test_every_folder_says_what_it_is() -> None:
    """What it does, what it knows nothing about, where to begin."""
    for path in MODULES.values():
        if path.name == "__init__.py":
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert "Begin with" in " ".join(said.split()), path


def test_only_settings_reads_the_environment() -> None:
    """No module but the settings, and what tells of slips in their names; one command looks for torchrun's rank."""
    reading = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }

    assert reading <= {"serving/settings.py", "serving/environment.py", "breadcrumbs/commands/train.py"}


def test_only_the_cluster_imports_ray() -> None:
    """Ray is an extra: without it everything else works, the commands of the cluster's included."""
    importing = {
        str(path.relative_to(ROOT))
        for floor in FLOORS
        for path in sources(floor)
        if any(name.split(".")[0] == "ray" for name in imported(path))
    }

    parts = ("application", "connection", "replica", "refit_task", "refits")
    assert importing == {f"serving/cluster/{name}.py" for name in parts} | {
        "breadcrumbs/commands/cluster.py"
    }  # for types


def test_every_package_is_installed() -> None:
    """What has modules is named in `pyproject.toml`, or an installation lacks it."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {name for name, path in MODULES.items() if path.name == "__init__.py"}

    assert set(named) == found
    assert {path.parent for path in imports()} - {
        path.parent for path in MODULES.values() if path.name == "__init__.py"
    } == {
        ROOT / "training/data/embedded"  # data, and the program that made it
    }


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


@pytest.mark.parametrize(
    "module",
    [
        "breadcrumbs",
        "breadcrumbs.serving.app",
        "breadcrumbs.serving.client.client",
        "breadcrumbs.training.config",
        "breadcrumbs.training.data.dataset",
    ],
)
def test_torch_stays_out_of_the_server(module: str) -> None:
    """Importing the command line, the server or what they need does not load torch."""
    code = f"import {module}, sys; print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert answer.stdout.strip() == "False"
