"""The command line: help, one-sentence errors, exit statuses. What commands do is tested with what they call."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import Parameter
from forked import command
from pydantic import BaseModel

from breadcrumbs.serving.settings import GROUPS as SERVE_GROUPS
from breadcrumbs.serving.settings import Settings
from breadcrumbs.training.config import GROUPS as TRAIN_GROUPS
from breadcrumbs.training.config import RefitSpec, TrainConfig

ROOT = Path(__file__).parent.parent
COMMANDS = ("train", "evaluate", "export", "serve", "predict", "snapshot", "refit", "heads", "store", "keys", "demo")


def test_help_lists_every_command() -> None:
    """`breadcrumbs --help` names each command."""
    answer = command("--help")

    assert answer.returncode == 0
    assert all(name in answer.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("name", "model"), [("train", TrainConfig), ("refit", RefitSpec), ("serve", Settings)], ids=str
)
def test_every_field_is_a_flag(name: str, model: type) -> None:
    """Each field of a configuration is a flag with a help text."""
    answer = command(name, "--help")
    flags = {f"--{field.replace('_', '-')}" for field in model.model_fields}

    assert {flag for flag in flags if flag not in answer.stdout} == set()
    assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(("name", "groups"), [("serve", SERVE_GROUPS), ("train", TRAIN_GROUPS)], ids=["serve", "train"])
def test_long_help_is_in_groups(name: str, groups: tuple[str, ...]) -> None:
    """Every setting of the server and of a run stands below the name of its group, in that order."""
    told = command(name, "--help").stdout
    titles = [line.split("─ ")[1].split(" ─")[0] for line in told.splitlines() if line.startswith("╭─ ")]

    assert [title for title in titles if title != "Parameters"] == list(groups)


@pytest.mark.parametrize("model", [Settings, TrainConfig])
def test_every_field_has_a_group(model: type[BaseModel]) -> None:
    """A field without one would stand among the flags of the command itself."""
    fields = model.model_fields.items()

    assert [name for name, field in fields if not any(isinstance(one, Parameter) for one in field.metadata)] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--recipe", "nope"), "no recipe 'nope'; there are: demo"),
        (("train", "--data", "nowhere", "--out", "OUT"), "no data at nowhere"),
        (("train", "--resume", "--out", "OUT"), "config.json"),
        (("train", "--epochs", "0"), "--epochs: Input should be greater than"),
        (("train", "--batch-size", "x"), "--batch-size: Input should be a valid integer"),
        (("serve", "--bundle", "nowhere", "--port", "0"), "no bundle at nowhere"),
        (("serve", "--port", "70000"), "--port: Input should be less than"),
        (("evaluate", "nowhere"), "no bundle at nowhere"),
        (("evaluate", "models/demo", "--against", "nowhere"), "no bundle at nowhere"),
        (("evaluate", "models/demo", "--data", "nowhere"), "no data at nowhere"),
        (("export", "nowhere"), "no checkpoint"),
        (("predict", "nowhere.png", "--server", "http://127.0.0.1:9"), "nowhere.png"),
        (("store", "verify", "--store", "nowhere"), "there is no store at nowhere; pass the server's as --store"),
        (("keys", "--file", "nowhere.json"), "nowhere.json: No such file or directory; `breadcrumbs keys add` makes"),
        (("keys", "add", "a b", "--scope", "predict", "--file", "OUT"), "name: String should match pattern"),
        (("serve", "--host", "0.0.0.0"), "host 0.0.0.0 serves other machines, and there are no keys"),
        (("heads", "--server", "http://127.0.0.1:9"), "`breadcrumbs serve` starts a server, --server names one"),
        (("nope",), "`breadcrumbs --help` lists what there is"),
        (("heads", "rolback"), "did you mean `breadcrumbs heads rollback`? there are: activate, rollback, diff"),
        (("keys", "ad"), "'ad' is no command of `breadcrumbs keys`; did you mean `breadcrumbs keys add`?"),
        (("keys", "xyzzy"), "'xyzzy' is no command of `breadcrumbs keys`; there are: add, revoke"),
        (("store", "verfy"), 'Did you mean "verify"?'),
        (("heads", "activate", "1", "2"), "'2' is more than the command takes; `breadcrumbs heads activate --help`"),
        (("heads", "activate"), "VERSION requires an argument; `breadcrumbs heads activate --help` lists"),
        (("heads", "activate", "x"), 'unable to convert "x" into int'),
        (("refit", "--bundle", "models/demo", "--out", "OUT", "--l2", "-1"), "breadcrumbs: l2: expected auto or 1e-8"),
        (("serve", "--workers", "2", "--follow", "0"), "breadcrumbs: --follow: 0 goes neither with several --workers"),
        (("heads", "--server", "nonsense"), "'nonsense': expected a server's URL, as http://127.0.0.1:8000"),
        (("heads", "--server", "http://[::1"), "'http://[::1': expected a server's URL, as http://127.0.0.1:8000 (Inv"),
        (("heads", "--key", "schlüssel"), "the key: expected one as `breadcrumbs keys add` printed it"),
        (("predict", "--nope"), "Unknown option: --nope"),
        (("predict", "a.png", "--top-k", "0"), "--top-k 0: expected at least 1"),
        (("refit", "--bundle", "nowhere", "--out", "OUT"), "no bundle at nowhere"),
        (("refit", "--bundle", "models/demo", "--out", "OUT", "--spec", "pyproject.toml"), "JSON object"),
        (("refit", "--out", "OUT"), "name --bundle and --out, to refit locally, or --server without --bundle"),
        (("refit", "--bundle", "models/demo"), "name --bundle and --out"),
        (
            ("refit", "--bundle", "models/demo", "--out", "OUT", "--server", "http://127.0.0.1:9"),
            "or --server without --bundle, --examples, --head, --gate-holdout and --device",
        ),
        (
            ("refit", "--server", "http://127.0.0.1:9", "--device", "cuda"),
            "or --server without --bundle, --examples, --head, --gate-holdout and",
        ),
        (("refit", "--server", "http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
        (("refit", "--server", "http://127.0.0.1:9", "--snapshot", "nowhere"), "nowhere: No such file"),
        (("snapshot", "--bundle", "nowhere", "--out", "OUT"), "no bundle at nowhere"),
        (("snapshot", "--bundle", "models/demo", "--data", "nowhere", "--out", "OUT"), "no data at nowhere"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_users_mistake_is_one_sentence(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """A mistake ends with a status that is not 0, one message that names it, and no traceback."""
    answer = command(*(str(tmp_path / "out") if a == "OUT" else a for a in arguments))

    assert answer.returncode == 2
    assert [line.startswith("breadcrumbs: ") for line in answer.stderr.splitlines()].count(True) == 1
    assert message in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(host: str, processes: str, tmp_path: Path) -> None:
    """`serve` says so, and how to take another; whatever the address and the number of processes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port, store = str(taken.getsockname()[1]), str(tmp_path / "store")
        answer = command("serve", "--host", host, "--port", port, "--store", store, "--workers", processes)

    shown = f"[{host}]" if ":" in host else host
    told = f"cannot listen on {shown}:{port}: address already in use; --port (BREADCRUMBS_PORT) names another port"
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1] == f"breadcrumbs: {told}"
    assert not (tmp_path / "store").exists()


def test_a_wrong_environment_variable_is_named() -> None:
    """As the user wrote it."""
    line = [sys.executable, "-m", "breadcrumbs", "serve"]
    answer = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env={"BREADCRUMBS_PORT": "x"})

    assert answer.returncode == 2
    assert answer.stderr.startswith("breadcrumbs: BREADCRUMBS_PORT: Input should be a valid integer")


def test_refit_says_its_error_in_json(tmp_path: Path) -> None:
    """With --json the last line is the error as an object, as the server reads it; the status is 2."""
    answer = command("refit", "--bundle", "nowhere", "--out", str(tmp_path), "--json")

    last = json.loads(answer.stdout.splitlines()[-1])
    assert answer.returncode == 2
    assert last["event"] == "error"
    assert last["error"]["type"] == "BundleError"
    assert "no bundle at nowhere" in last["error"]["message"]


@pytest.mark.slow
def test_evaluate_measures_the_embedded_bundle() -> None:
    """`breadcrumbs evaluate models/demo` prints the numbers that the manifest has."""
    answer = command("evaluate", "models/demo")
    metrics = json.loads((ROOT / "models/demo/manifest.json").read_text())["metrics"]

    assert answer.returncode == 0, answer.stderr
    for head in ("balanced", "joint"):
        assert f"{100 * metrics[head]['balanced']:.1f}" in answer.stdout


@pytest.mark.slow
def test_evaluate_compares_in_json() -> None:
    """With --json there is one object with everything, the comparison too; a bundle is no better than itself."""
    answer = command("evaluate", "models/demo", "--against", "models/demo", "--json")

    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["against"]["balanced"]["value"] == 0
    assert len(found["heads"]["balanced"]["recall"]) == 10
