"""What all commands have in common: an example that parses, JSON, exit statuses, one sentence for a mistake."""

import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from cyclopts import App
from forked import command, started
from listed_commands import PRINTS_NOTHING, commands
from patience import PATIENCE, soon
from rich.console import Console
from running import Serve, make_settings, running
from tiny import picture, png

from breadcrumbs import cli
from breadcrumbs.models.bundle import Bundle

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(commands() - {"examples", "store", "cluster"})
"""It logs, until it is told to stop."""


@pytest.fixture
def serve(tiny_bundle: Bundle, tmp_path: Path) -> Serve:
    """A way to start servers on this test's own store."""
    return lambda *mode: running(make_settings(tiny_bundle, tmp_path / "store"), *mode)


def program(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line after some other code."""
    return command(*arguments, code=f"{code}\nimport breadcrumbs.cli; breadcrumbs.cli.main()")


def parsed(words: list[str]) -> tuple[str, set[str]]:
    """The name of the function that some words call, and its arguments; raises where they are no command."""
    function, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    return function.__name__, set(bound.arguments)


def found(name: str) -> App:
    """A command as the parser has it."""
    app = cli.app
    for word in name.split():
        app = app[word]
    return app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name: str) -> None:
    """Its help shows it, and the real parser takes its flags."""
    function = found(name).default_command
    assert function is not None
    assert function.__doc__ is not None
    examples = re.findall(r"^    Example: `breadcrumbs (.+)`$", function.__doc__, re.MULTILINE)

    assert len(examples) == 1
    assert examples[0].startswith(name)
    assert parsed(shlex.split(examples[0]))[0] == function.__name__


@pytest.mark.parametrize("name", [*COMMANDS, "examples", "store", "cluster"])
def test_every_help_shows_an_example(name: str) -> None:
    """As a user sees it."""
    file = io.StringIO()
    cli.app.help_print(name.split(), console=Console(file=file, width=200))

    assert f"Example: breadcrumbs {name}" in file.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_prints_has_json(name: str) -> None:
    """`--json` is among its flags."""
    flags = {flag for argument in found(name).assemble_argument_collection() for flag in argument.names}

    assert ("--json" in flags) == (name not in PRINTS_NOTHING)


def test_help_tells_the_exit_statuses_and_how_to_complete() -> None:
    """So that a script's author need not look elsewhere."""
    answer = program("", "--help")

    assert answer.returncode == 0
    for part in (
        "Exit status: 0",
        "1 a bug in Breadcrumbs",
        "2 an error that you can fix",
        "130",
        "--install-completion",
    ):
        assert part in " ".join(answer.stdout.split())


def test_the_version_is_that_of_the_package() -> None:
    """As it is installed."""
    assert program("", "--version").stdout.strip() == metadata.version("breadcrumbs-longtail")


BUG = "import breadcrumbs.doctor\ndef examine(_): 1 / 0\nbreadcrumbs.doctor.examine = examine"


def test_a_bug_is_one_sentence_with_status_1() -> None:
    """What failed, that it is a bug, and how to see the traceback; in JSON where that is asked for."""
    answer, as_json = program(BUG, "doctor"), program(BUG, "doctor", "--json")
    told = "doctor failed: ZeroDivisionError: division by zero; this is a bug in Breadcrumbs: "
    told += "--debug shows the traceback, please report it"

    assert (answer.returncode, answer.stderr) == (1, f"breadcrumbs: {told}\n")
    assert (as_json.returncode, as_json.stderr) == (1, f"breadcrumbs: {told}\n")
    assert json.loads(as_json.stdout)["error"] == {"type": "ZeroDivisionError", "message": told}


def test_debug_shows_the_traceback_of_a_bug() -> None:
    """Above the sentence, which then asks for it."""
    answer = program(BUG, "doctor", "--debug")

    assert answer.returncode == 1
    assert answer.stderr.startswith("Traceback")
    assert answer.stderr.splitlines()[-1].endswith(
        "this is a bug in Breadcrumbs: please report it with the traceback above"
    )


@pytest.mark.parametrize("raised", ["MemoryError()", "__import__('torch').OutOfMemoryError('CUDA out of memory')"])
def test_too_little_memory_is_no_bug(raised: str) -> None:
    """Whether the machine's or the GPU's."""
    answer = program(BUG.replace("1 / 0", f"raise {raised}"), "doctor")

    assert answer.returncode == 2
    assert answer.stderr.startswith("breadcrumbs: out of memory: ")
    assert "smaller batches" in answer.stderr


@pytest.mark.parametrize("module", ["breadcrumbs.nowhere", "breadcrumbs.serving.nowhere"])
def test_a_module_of_ours_that_is_missing_is_a_bug(module: str) -> None:
    """No extra brings it."""
    answer = program(BUG.replace("1 / 0", f"import {module}"), "doctor")

    assert answer.returncode == 1
    assert f"No module named '{module}'; this is a bug in Breadcrumbs" in answer.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """The base install has no torch; what needs it says how to get it."""
    absent = "import sys; sys.modules['torch'] = None; from breadcrumbs import cli; cli.main()"
    for words in (("train", "--out", str(tmp_path / "a")), ("evaluate", "models/demo")):
        line = [sys.executable, "-c", absent, *words]
        answer = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert answer.returncode == 2
        assert "this needs torch, which is not installed: pip install 'breadcrumbs-longtail[refit]'" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_mistake_in_flags_is_json_too() -> None:
    """Whoever asked for JSON gets it."""
    answer = program("", "store", "verify", "--json", "--nope")

    assert answer.returncode == 2
    assert json.loads(answer.stdout)["error"]["type"] == "UnknownOptionError"
    assert answer.stderr.startswith("breadcrumbs: Unknown option")


def test_debug_shows_where_an_error_came_from() -> None:
    """The sentence comes all the same."""
    answer = program("", "evaluate", "nowhere", "--debug")

    assert answer.returncode == 2
    assert "Traceback" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("breadcrumbs: no bundle at nowhere")


@pytest.mark.slow
def test_an_interrupted_command_has_status_130(serve: Serve, tmp_path: Path) -> None:
    """Without a traceback; here while it waits for a refit."""
    with serve("waits", str(tmp_path / "go")) as client:
        with started("refit", "--server", str(client.base_url), "--json") as process:
            soon(lambda: '"stage": "read"' in process.out, "the refit")
            process.send(signal.SIGINT)
            status, errors = process.wait(), process.err
        (tmp_path / "go").touch()

    assert status == 130
    assert "Traceback" not in errors


def test_predict_takes_more_images_than_a_request_may_have(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And says which one the server refuses."""
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.png").write_bytes(png(picture()))
    (tmp_path / "notes.txt").write_bytes(b"no image")
    good = [str(tmp_path / f"{name}.png") for name in ("one", "two", "three")]
    with running(make_settings(tiny_bundle, tmp_path / "store", max_images=1)) as client:
        server = ("--server", str(client.base_url))
        all_good = program("", "predict", *good, *server, "--json")
        one_bad = program("", "predict", good[0], str(tmp_path / "notes.txt"), *server)

    assert [one["image"] for one in json.loads(all_good.stdout)["predictions"]] == good
    assert json.loads(all_good.stdout)["head"]["version"] == 1
    assert one_bad.returncode == 2
    assert one_bad.stdout.startswith(good[0])
    assert one_bad.stderr.count("breadcrumbs: ") == 1
    assert "breadcrumbs: 1 of 2 images cannot be classified:\n" in one_bad.stderr
    assert f"{tmp_path / 'notes.txt'}: not a JPEG, PNG or WebP image (8 bytes)" in one_bad.stderr


def test_the_commands_of_the_store_end_in_order(tmp_path: Path) -> None:
    """With status 0, however busy the machine is; the store's threads may outlive what they did."""
    line = [sys.executable, "-m", "breadcrumbs", "store", "gc", "--store", str(tmp_path), "--json"]
    started = [subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
    printed = [process.communicate(timeout=PATIENCE)[0] for process in started]

    assert [process.returncode for process in started] == [0] * 4
    assert {json.loads(text)["bytes"] for text in printed} == {0}


def test_help_and_serve_load_no_torch() -> None:
    """A command imports what it needs."""
    code = "import sys; from breadcrumbs import cli\n"
    code += "for words in (['--help'], ['serve', '--port', '1'], ['train', '--epochs', '1'], ['heads']):\n"
    code += "    cli.app.parse_args(words)\n"
    code += "print({'torch', 'onnxruntime', 'httpx', 'fastapi'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert answer.stdout.splitlines()[-1] == "set()"


COMPLETE = """source $1; COMP_WORDS=(breadcrumbs $2); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_breadcrumbs; echo ${COMPREPLY[@]}"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_flags_and_choices(tmp_path: Path) -> None:
    """With what `--install-completion` installs."""
    program(f"import os; os.environ['HOME'] = {str(tmp_path)!r}", "--install-completion", "--shell", "bash")
    (script,) = (path for path in tmp_path.rglob("*") if path.name == "breadcrumbs")

    def completed(words: str) -> str:
        """What bash offers after some words."""
        return subprocess.check_output(["bash", "-c", COMPLETE, "bash", str(script), words], text=True).strip()

    assert completed("he") == "heads"
    assert completed("heads di") == "diff"
    assert completed("predict --ser") == "--server"
    assert completed("keys add lab-7 --scope pro") == "promote"
