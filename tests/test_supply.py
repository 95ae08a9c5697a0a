"""What is installed and pulled, held to its bytes: every package by its hashes, every image by its digest."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))
MACHINES = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_full_version": f"{minor}.0",
        "python_version": minor,
    }
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))
    for minor in ("3.11", "3.13")
]
HASH = r"--hash=sha256:[0-9a-f]{64}"
DIGEST = r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"


class Locked(NamedTuple):
    """A line of a lock: one version of one package, and where it is installed."""

    name: str
    version: str
    line: Requirement


def lines(lock: str) -> list[str]:
    """The logical lines of a lock."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def locked(lock: str) -> list[Locked]:
    """What a lock pins."""
    found = [Requirement(re.sub(HASH, "", line)) for line in lines(lock)]
    return [Locked(canonicalize_name(one.name), str(one.specifier).removeprefix("=="), one) for one in found]


def asked(extras: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, those that they name in turn included."""
    found = []
    for word in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]:
        one = Requirement(word)
        own = one.name == PROJECT["project"]["name"]
        found += asked(sorted(one.extras)) if own else [one]
    return found


def applies(one: Requirement, machine: dict[str, str]) -> bool:
    """Whether a requirement is one of a machine's."""
    return one.marker is None or one.marker.evaluate(machine)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_bytes_and_names_no_host(lock: str) -> None:
    """One version a line with the hashes of its files, and nothing that says where to get it."""
    assert lines(lock)
    for line in lines(lock):
        assert re.fullmatch(rf"[a-z0-9.-]+==[\w.+!]+ *(; [^\\]+?)?( +{HASH})+", line), line[:200]


def test_locks_agree() -> None:
    """A package has one version, whichever lock installs it."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for one in locked(lock):
            versions.setdefault(one.name, set()).add(one.version)

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("lock", "extras"), [("dev", sorted(EXTRAS)), ("full", ["refit", "parquet", "otel"]), ("serve", ["otel"])]
)
@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: "-".join(one.values()))
def test_a_lock_has_what_is_asked_for(lock: str, extras: list[str], machine: dict[str, str]) -> None:
    """In a version that pyproject.toml allows, on every kind of machine; `make lock` writes what is missing."""
    here = {
        one.name: one.version for one in locked(lock) if one.line.marker is None or one.line.marker.evaluate(machine)
    }
    for one in asked(extras):
        name = canonicalize_name(one.name)
        if lock == "serve" and name == "onnxruntime-gpu":
            name = "onnxruntime"  # that image computes on a CPU
        if one.marker is None or one.marker.evaluate(machine):
            assert name in here, f"{lock}: {one} is missing; `make lock` adds it"
            assert SpecifierSet(str(one.specifier)).contains(here[name]), f"{lock}: {one}, and {here[name]} is locked"


def test_the_image_without_torch_has_no_gpus_libraries() -> None:
    """Neither torch nor CUDA, which are most of the other one."""
    assert not [one.name for one in locked("serve") if re.match(r"torch|nvidia|cuda|triton|onnxruntime-gpu", one.name)]


def test_what_builds_the_project_is_locked_too() -> None:
    """And pip itself."""
    tools = {one.name: one.version for one in locked("build")}

    assert "pip" in tools
    for one in map(Requirement, PROJECT["build-system"]["requires"]):
        assert one.specifier.contains(tools[one.name])


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "docs/deploy.md"])
def test_pip_takes_only_what_is_locked(file: str) -> None:
    """Every line that installs the project's environment checks hashes, or installs the project alone."""
    hashed = re.compile(r"--require-hashes (-r|--requirement) (requirements/)?\w+\.txt")
    text = (ROOT / file).read_text().replace("$(HASHED)", "--require-hashes --requirement")
    found = [line for line in text.splitlines() if re.search(r"pip (install|download) -", line)]

    assert len(found) >= 3
    for line in found:
        assert hashed.search(line) or "--no-deps --no-build-isolation" in line, line


def test_images_are_pulled_by_digest() -> None:
    """The Dockerfile's and Compose's, with the tag that says which version it is."""
    stages = re.findall(r"^FROM (\S+) AS (\w[\w-]*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    pulled = [image for image, _ in stages if image not in {name for _, name in stages}]
    pulled += [service["image"] for service in services if "build" not in service]

    assert len(pulled) == 3
    assert [image for image in pulled if not re.fullmatch(DIGEST, image)] == []


def test_the_bill_of_materials_has_what_is_installed() -> None:
    """In CycloneDX: every locked package in its version, with a package URL, and nearly always a licence."""
    told = subprocess.run([sys.executable, ROOT / "requirements/sbom.py"], capture_output=True, check=True).stdout
    bill = json.loads(told)
    found = {one["name"]: one for one in bill["components"]}
    here = {name.replace("_", "-") for name in map(canonicalize_name, (one.name for one in distributions()))}

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == PROJECT["project"]["name"]
    for one in locked("serve"):
        if one.name in here:
            assert found[one.name]["version"] == one.version
            assert found[one.name]["purl"] == f"pkg:pypi/{one.name}@{one.version}"
    assert sum(one["licenses"] == [] for one in found.values()) < len(found) / 10


@pytest.mark.parametrize("builder", ["serve", "full"])
def test_an_image_brings_its_bill_of_materials(builder: str) -> None:
    """Written when nothing is installed or removed any more."""
    stage = (ROOT / "Dockerfile").read_text().split(f"AS {builder}-builder")[1].split("FROM")[0]

    assert stage.rpartition("pip uninstall")[2].count("requirements/sbom.py > /opt/breadcrumbs/sbom.cdx.json") == 1


def test_the_citation_is_of_this_version() -> None:
    """And of the paper, by all its authors."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = cited["references"]
    changes = (ROOT / "CHANGELOG.md").read_text()

    assert cited["version"] == PROJECT["project"]["version"]
    assert f"## [{cited['version']}] - {cited['date-released']}" in changes
    assert paper["title"] == "Breadcrumbs: Adversarial Class-Balanced Sampling for Long-tailed Recognition"
    assert [one["family-names"] for one in paper["authors"]] == ["Liu", "Li", "Kang", "Hua", "Vasconcelos"]
