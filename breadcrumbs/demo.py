"""The whole path once, as a user would walk it: the command line in child processes, everything else over HTTP.

    train -> serve -> predict -> upload snapshots -> refit -> activate -> predict again -> before / after

The bundle's hold-out is some of the embedded test images; the others are what the table reports.
It knows only public interfaces: commands, routes, and where the embedded images are.
"""

import contextlib
import fcntl
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from breadcrumbs.models.bundle import HOLDOUT
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.groups import Group, groups
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.processes.scratch import locked
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.data.dataset import Split, load
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.terminal.refit_events import tell_json
from breadcrumbs.training.terminal.tables import show

START_SECONDS = 60
INTERRUPTED = 130  # the command line's status
REQUEST_IMAGES = 50
MARK = ".breadcrumbs-demo"  # the file that says that a demo made its folder; locked while one runs
MARKED = b"this folder was made by `breadcrumbs demo`, which empties it when it runs again\n"
SNAPSHOTS = 5  # of the newest epochs, uploaded

screen = Console()


class DemoFailed(BreadcrumbsError):
    """A step did not do what it says."""


def run(out: Path, port: int, *, stay: bool, as_json: bool = False) -> None:
    """Walk the path; at the end stay up until interrupted, or stop the server and return.

    With `as_json` the result is one JSON object, and the steps are told on standard error.

    Raises:
        DemoFailed: naming the step.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped on that way, too
    _check_free(port)
    with _own(out) as mark:
        _run(out, port, mark, stay=stay, as_json=as_json)


def _run(out: Path, port: int, mark: int, *, stay: bool, as_json: bool) -> None:
    screen.stderr = as_json
    started = time.monotonic()
    _say("1  train backbone, joint head and balanced head on the embedded Fashion-MNIST-LT")
    _command("train", "--recipe", "demo", "--out", str(out))
    _say(f"   {time.monotonic() - started:.0f} s")
    _say(f"2  serve {out}/bundle")
    serve = [
        "serve",
        "--bundle",
        f"{out}/bundle",
        "--store",
        f"{out}/store",
        "--port",
        str(port),
        "--access-log",
        "none",
    ]
    server = subprocess.Popen([sys.executable, "-P", "-m", "breadcrumbs", *serve], pass_fds=(mark,))
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_ready(client, server)
            rows, images = _walk(client, out)
        if as_json:
            tell_json({"images": images, "heads": {name: metrics.as_dict() for name, metrics in rows.items()}})
        else:
            _table(rows, images)
        if stay:
            _say(f"the server stays up: http://127.0.0.1:{port}/docs   (Ctrl-C stops it)")
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)


def _walk(client: Client, out: Path) -> tuple[dict[str, Metrics], int]:
    """What was measured of each head, by its name, and on how many images."""
    bundle = read_bundle(out / "bundle")
    data = load(TrainConfig.model_validate(bundle.manifest.recipe))
    holdout = bundle.holdout()
    if holdout is None or holdout.ids is None:
        raise DemoFailed(f"{bundle.folder} has no hold-out with ids; this is a bug")
    reported = data.test.take(np.flatnonzero(~np.isin(data.test.ids, holdout.ids)))
    class_groups = groups(bundle.manifest.train_counts, bundle.manifest.groups)
    _say(f"3  predict {len(reported)} test images over HTTP")
    before = _measure(client, reported, class_groups)
    _say(
        f"4  upload the snapshots of the last {SNAPSHOTS} epochs, and the bundle's hold-out, {len(holdout.ids)} images"
    )
    uploads = sorted((out / "snapshots").glob("epoch-*.safetensors"))[-SNAPSHOTS:]
    stored = [client.put_snapshot(path).sha256 for path in uploads]
    _say("5  refit: members, transfer and offsets by cross-validation, comparison with the live head")
    job = client.refit(stored, RefitSpec(), client.put_snapshot(bundle.folder / HOLDOUT).sha256)
    done = client.wait(job.id)
    if done.state != "succeeded" or done.verdict is None:
        raise DemoFailed(f"refit {job.id} {done.state}: {done.error.message if done.error else ''}")
    version, gate = done.verdict.head, done.verdict.gate
    parts = (done.report or {}).get("members", [])
    members = ", ".join(f"{part['share']:.0%} {part['member']}" for part in parts if part["share"])
    _say(f"   the head: {members}; the gate says {gate.words}")
    if done.verdict.activated:
        _say(f"6  head {version} went live by itself")
    else:
        _say(f"6  activate head {version} by hand, against the gate, to show it")
        client.activate(version, f"demo: shown although the gate says {gate.answer}")
    after = _measure(client, reported, class_groups)
    if after[1] != version:
        raise DemoFailed(f"head {after[1]} answered; head {version} should be live")
    return {f"live head {before[1]}, as trained": before[0], f"refitted head {after[1]}": after[0]}, len(reported)


@contextlib.contextmanager
def _own(out: Path) -> Iterator[int]:
    """Make the demo's folder, or empty one that an earlier demo made, and keep other demos from it until the end.

    Yields:
        A file descriptor; the folder is in use while any process has it open.

    Raises:
        DemoFailed: the folder is in use, or something else made it; nothing in it was touched.
    """
    try:
        if (out.is_symlink() or out.exists()) and not _is_demos(out):
            raise DemoFailed(
                f"{out} is not empty and was not made by a demo, so it is left as it is; name another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        mark = os.open(out / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DemoFailed(f"{error.filename or out}: {error.strerror}; name another folder with --out") from error
    try:
        _empty(out, mark)
        yield mark
    finally:
        os.close(mark)


def _empty(out: Path, mark: int) -> None:
    """Empty the demo's folder but for its mark."""
    with contextlib.ExitStack() as stack:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for used in (out / "bundle", out / "store"):
                if used.is_dir():
                    stack.callback(os.close, locked(used))
        except OSError as error:
            raise DemoFailed(
                f"{out} is in use by another demo or by a server; stop it, or name another folder with --out"
            ) from error
        try:
            for path in out.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != MARK:
                    path.unlink()
            os.pwrite(mark, MARKED, 0)
        except OSError as error:
            raise DemoFailed(f"{error.filename or out}: {error.strerror}; name another folder with --out") from error


def _is_demos(out: Path) -> bool:
    """Whether a folder is empty, or has a demo's mark."""
    if out.is_symlink() or not out.is_dir():
        return False
    mark = out / MARK
    return (mark.is_file() and not mark.is_symlink()) or not any(out.iterdir())


def _check_free(port: int) -> None:
    """Refuse a port where somebody else listens: it would be that server that answered."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoFailed(f"port {port} is taken ({error.strerror}); choose another with --port") from error


def _say(text: str) -> None:
    screen.print(text, highlight=False)


def _command(*arguments: str) -> None:
    line = [sys.executable, "-P", "-m", "breadcrumbs", *arguments]
    code = subprocess.run(line, check=False, stdout=sys.stderr if screen.stderr else None).returncode
    if code in {-signal.SIGINT, INTERRUPTED}:
        raise KeyboardInterrupt
    if code:
        raise DemoFailed(f"breadcrumbs {arguments[0]} ended with status {code}")


def _wait_ready(client: Client, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers from a real inference."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoFailed(f"the server ended with status {server.returncode}")
        try:
            client.ready()
        except ServerError:
            time.sleep(0.2)
        else:
            return
    raise DemoFailed(f"the server was not ready within {START_SECONDS} s")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        raise DemoFailed("the server did not stop within 60 s of SIGTERM") from None
    if code:
        raise DemoFailed(f"the server ended with status {code}")


def _png(split: Split) -> list[bytes]:
    files = []
    for row in range(len(split)):
        buffer = io.BytesIO()
        Image.fromarray(split.image(row)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def _measure(client: Client, split: Split, class_groups: Sequence[Group]) -> tuple[Metrics, int]:
    """Predict every image over HTTP; return the metrics and the one head that answered."""
    files = _png(split)
    logits: list[NDArray[np.float64]] = []
    answered = set[int]()
    for first in range(0, len(files), REQUEST_IMAGES):
        answer = client.predict(files[first : first + REQUEST_IMAGES], top_k=len(class_groups))
        answered.add(answer.head.version)
        for prediction in answer.predictions:
            row = np.zeros(len(class_groups))
            for ranked in prediction.classes:
                row[ranked.index] = np.log(max(ranked.probability, 1e-30))
            logits.append(row)
    if len(answered) != 1:
        raise DemoFailed(f"heads {sorted(answered)} answered; expected one")
    return evaluate(np.stack(logits), split.labels, class_groups), answered.pop()


def _table(rows: dict[str, Metrics], images: int) -> None:
    table = Table("head", "many", "medium", "few", "all", title=f"accuracy in %, {images} test images over HTTP")
    for name, m in rows.items():
        table.add_row(name, *("–" if v is None else f"{100 * v:.1f}" for v in (m.many, m.medium, m.few, m.all)))
    show(table, screen)
