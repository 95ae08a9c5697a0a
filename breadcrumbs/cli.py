"""The command line: from a folder of images to a live endpoint, and back again with feature snapshots.

The commands are in `breadcrumbs.commands.train` and `breadcrumbs.commands`; each imports what it needs and nothing
more:
`breadcrumbs serve` never loads torch. The flags of `train`, `refit` and `serve` are the fields of `TrainConfig`,
`RefitSpec` and `Settings`. `docs/commands.md` tells what all of them have in common.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from pydantic import ValidationError

from breadcrumbs.commands.adopt import adopt
from breadcrumbs.commands.cluster import cluster
from breadcrumbs.commands.examples import examples
from breadcrumbs.commands.heads import heads
from breadcrumbs.commands.keys import keys
from breadcrumbs.commands.lines import lines
from breadcrumbs.commands.migrate import migrate
from breadcrumbs.commands.predict import predict
from breadcrumbs.commands.refit import refit
from breadcrumbs.commands.store import store
from breadcrumbs.commands.train import convert, evaluate, export, snapshot, train
from breadcrumbs.commands.trials import trials
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving import logs
from breadcrumbs.serving.setting_names import flag, variable, with_notes
from breadcrumbs.serving.settings import Settings, wants_json
from breadcrumbs.training.terminal.refit_events import Json, tell_json

HELP = """Long-tailed image classification, from a folder of images to a live endpoint.

See everything once with `breadcrumbs demo`, or begin with your own images, a folder per class:

    breadcrumbs train --data photos/ --out runs/photos
    breadcrumbs serve --bundle runs/photos/bundle
    breadcrumbs predict cat.jpg

`breadcrumbs COMMAND --help` describes every flag and shows an example.

`--json` prints results and errors as JSON. `--debug` adds the traceback of an error.

Exit status: 0 success; 1 a bug in Breadcrumbs; 2 an error that you can fix, told in one sentence; 130 interrupted;
143 ended by SIGTERM."""
EXTRAS = {"torch": "refit", "matplotlib": "refit", "pyarrow": "parquet", "ray": "cluster"}
"""Which extra brings a module, where it is not `train`."""
LISTS = {flag(name) for name, field in Settings.model_fields.items() if field.default == ()}

app = App(
    name="breadcrumbs",
    help=HELP,
    version=lambda: metadata.version("breadcrumbs-longtail"),
    default_parameter=Parameter(negative_iterable=()),
)
BEGIN, MAKE, USE, KEEP = (
    Group(title, sort_key=place)
    for place, title in enumerate(("Start here", "Make a model", "Use a model", "Operate a server"))
)
COMMANDS: tuple[Callable[..., None], ...] = (adopt, train, evaluate, export, snapshot, convert, refit, migrate)
for number, command in enumerate(COMMANDS):
    app.command(command, group=MAKE, sort_key=number)
app.command(group=USE)(predict)
for number, nouns in enumerate((heads, lines, trials, examples, store, keys)):
    nouns.group, nouns.sort_key = (KEEP,), number
    app.command(nouns)
cluster.group = (USE,)
app.command(cluster)
app.register_install_completion_command()


@app.command(group=USE, sort_key=0)
def serve(*, settings: Annotated[Settings | None, Parameter(name="*")] = None) -> None:
    """Serve a bundle over HTTP: answer predictions, run refits, swap heads.

    Example: `breadcrumbs serve --bundle runs/photos/bundle --store runs/store --host 0.0.0.0 --keys keys.json`

    Args:
        settings: Every flag is also an environment variable: `--max-batch` is `BREADCRUMBS_MAX_BATCH`. Lists take
            commas, or the flag several times.
    """
    wanted = settings or Settings()
    if wanted.workers > 1:
        from breadcrumbs.serving.workers import run
    else:
        from breadcrumbs.serving.app import run
    run(wanted)


@app.command(group=BEGIN)
def doctor(*, json: Json = False, settings: Annotated[Settings | None, Parameter(name="*")] = None) -> None:
    """Check this installation: versions, GPU, memory, bundle, store, clock, proxies, keys; say how to fix each problem.

    Exits with status 2 if something must be fixed.

    Example: `breadcrumbs doctor --bundle runs/photos/bundle --store /var/lib/breadcrumbs`

    Args:
        json: Print one JSON object with all findings.
        settings: As for `serve`.
    """
    from dataclasses import asdict

    from breadcrumbs.doctor import examine

    findings = []
    for finding in examine(settings or Settings()):
        findings.append(finding)
        if not json:
            mark = {"good": "ok", "note": "--", "bad": "!!"}[finding.state]
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{mark}  {finding.name}: {finding.text}{remedy}", flush=True)  # noqa: T201
    sound = all(finding.state != "bad" for finding in findings)
    if json:
        tell_json({"findings": [asdict(finding) for finding in findings], "sound": sound})
    if not sound:
        sys.exit(2)


@app.command(group=BEGIN, sort_key=0)
def demo(
    *,
    out: Path = Path("runs/demo"),
    port: int = 8000,
    stay: bool = True,
    only_photos: bool = False,
    json: Json = False,
) -> None:
    """Learn from use, once, on this machine: train on embedded images, serve, predict, correct, refit, go live.

    Example: `breadcrumbs demo --port 8001 --no-stay`

    Args:
        out: Folder for everything it makes: new, empty, or made by an earlier demo, and then emptied.
        port: Port of the server.
        stay: Leave the server running at the end, until Ctrl-C.
        only_photos: Write the photos and end: OUT/photos to train on, OUT/new-photos that arrive later.
        json: Print one JSON object at the end, with what each head recognised; what is done goes to standard error.
    """
    from breadcrumbs.demo.demo import run, write_photos

    if only_photos:
        write_photos(out, as_json=json)
        return
    run(out, port, stay=stay, as_json=json)


def main() -> None:
    """Run the command line; every error is one sentence: exit status 2 if the user can fix it, 1 if it is a bug."""
    status: str | int | None = 0
    try:
        _run()
    except SystemExit as ending:
        status = ending.code
    if "obstore" in sys.modules and "torch" not in sys.modules and isinstance(status, int):
        # Its threads may still let go of Python's objects. One that does so while the interpreter ends is cancelled
        # within Rust, which aborts the process (before Python 3.14); so there is no such end.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _run() -> None:
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    if sys.argv[1:2] == ["serve"]:
        logs.configure("json" if wants_json(sys.argv) else "text")
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "timm", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app(exit_on_error=False, print_error=False)
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - whatever it is, it gets a sentence and a status
        mistake = sentence(error)
        told = mistake or _bug(error, debug=debug)
        if "--json" in sys.argv:
            tell_json({"event": "error", "error": {"type": type(error).__name__, "message": told}})
        logs.end(told, error if debug else None)
        sys.exit(2 if mistake else 1)


def sentence(error: Exception) -> str | None:
    """Tell what went wrong and what the user can do about it; None: nothing, it is a bug."""
    cause = error.__cause__ if isinstance(error, CycloptsError) else error
    if isinstance(cause, ValidationError):
        return _setting(cause, _flags(error) if isinstance(error, CycloptsError) else set())
    if isinstance(error, CycloptsError):
        return _line(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        told = " ".join(str(error).split())[:200] or "no more memory"
        return f"out of memory: {told}; use smaller batches or images, or a machine with more memory"
    if isinstance(error, OSError):
        return with_notes(error, f"{error.filename}: {error.strerror}" if error.filename else "")
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        if module != __package__:
            extra = EXTRAS.get(module, "train")
            return f"this needs {module}, which is not installed: pip install 'breadcrumbs-longtail[{extra}]'"
    return _with_remedy(error) if isinstance(error, BreadcrumbsError) else None


def _bug(error: Exception, *, debug: bool) -> str:
    """What failed, that it is not the user's fault, and how to see more of it."""
    chain, _, _ = app.parse_commands(sys.argv[1:])
    more = "please report it with the traceback above" if debug else "--debug shows the traceback, please report it"
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{' '.join(chain)} failed: {' '.join(what.split())}; this is a bug in Breadcrumbs: {more}"


def _line(error: CycloptsError) -> str:
    """What of the line itself is wrong."""
    chain = error.command_chain or ()
    if isinstance(error, UnusedCliTokensError) and {"serve", "doctor", "up"} & set(chain):
        return _without_flag(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        came, names = error.unused_tokens[0], _commands_below(chain)
        if names:
            return _no_such_command(came, chain, names)
        told = f"{came!r:.80} is more than the command takes"
    else:
        told = " ".join(str(error).split())
    told += " " if told.endswith(("?", "...")) else "; "
    return f"{told.replace('.; ', '; ')}`{' '.join(('breadcrumbs', *chain))} --help` lists what there is"


def _commands_below(chain: Sequence[str]) -> list[str]:
    """Return the names of the commands below a command, such as `diff` below `heads`."""
    _, apps, _ = app.parse_commands(list(chain))
    return [name for name in apps[-1] if not name.startswith("-")]


def _no_such_command(came: str, chain: Sequence[str], names: list[str]) -> str:
    """Which command below another was meant, and which there are."""
    line = " ".join(("breadcrumbs", *chain))
    near = get_close_matches(came, names, 1)
    meant = f"; did you mean `{line} {near[0]}`?" if near else ";"
    return f"{came!r:.80} is no command of `{line}`{meant} there are: {', '.join(names)}"


def _without_flag(error: UnusedCliTokensError) -> str:
    """Which flag was meant: that of the list before it, or else the bundle's."""
    line, came = error.root_input_tokens or [], (error.unused_tokens or [""])[0]
    before = [token for token in line[: line.index(came)] if token.startswith("--")][-1:]
    meant = before[0] if before and before[0] in LISTS else "--bundle"
    return f"{came!r:.80} has no flag before it; did you mean {meant} {came:.80}?"


def _flags(error: CycloptsError) -> set[str]:
    """Return the fields whose flags were on the line."""
    fields = error.argument.children if error.argument is not None else ()
    return {one.name.removeprefix("--").replace("-", "_") for one in fields if one.tokens}


def _setting(error: ValidationError, typed: set[str]) -> str:
    """Which setting is wrong, as the user named it: a flag, an environment variable, or a field of a file."""
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    came = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
    place = first["loc"]
    if not place:  # about several together: the message names them, a setting of the server first
        field, _, rest = said.partition(": ")
        if field not in Settings.model_fields:
            return said
        place, said, came = (field,), rest, ""
    name = str(place[0])
    if name in typed:
        return f"{flag(name)}: {said}{came}"
    if Settings.__name__ in error.title and name in Settings.model_fields:
        return f"{variable(name)}: {said}{came}"
    return f"{'.'.join(map(str, place))}: {said}{came}"


def _with_remedy(error: BreadcrumbsError) -> str:
    """What went wrong and, where only the command line knows it, what to do."""
    from breadcrumbs.serving.client.retries import ServerError

    if isinstance(error, ServerError) and error.kind == "unreachable":
        return f"{error}; `breadcrumbs serve` starts a server, --server names one"
    if isinstance(error, ServerError) and error.status == 401:
        return f"{error}; here by --key or BREADCRUMBS_KEY"
    return with_notes(error)
