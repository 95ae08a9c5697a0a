"""Learning from use, once, as a user would walk it: commands in child processes, everything else over HTTP.

photos in folders -> train -> serve -> a stream of photos -> corrections -> refits -> the gate -> live, step by step
"""

import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from breadcrumbs.demo.folder import DemoFailed, own
from breadcrumbs.demo.photos import NEW, Photos, deal, lay
from breadcrumbs.demo.recognised import recognised
from breadcrumbs.demo.stream import EVERY, Learned, stream
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.training.terminal.refit_events import tell_json
from breadcrumbs.training.terminal.tables import show

START_SECONDS = 60
INTERRUPTED = 130  # the command line's status
REMEMBER = 10_000  # answers
CALLED = 3  # names of the new class's photos that a row lists
TRAINED_ON, ARRIVED = "photos", "new-photos"  # folders

screen = Console()


def run(out: Path, port: int, *, stay: bool, as_json: bool = False) -> None:
    """Walk the path; at the end stay up until interrupted, or stop the server and return.

    With `as_json` the result is one JSON object, and the steps are told on standard error.

    Raises:
        DemoFailed: naming the step.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped on that way, too
    _check_free(port)
    with own(out) as mark:
        _run(out, port, mark, stay=stay, as_json=as_json)


def _run(out: Path, port: int, mark: int, *, stay: bool, as_json: bool) -> None:
    screen.stderr = as_json
    started = time.monotonic()
    photos = _photos(out)
    most, fewest = max(photos.trained.values()), min(photos.trained.values())
    data = f"{out}/{TRAINED_ON}"
    _say(f"1  train on {data}: {len(photos.trained)} classes of {most} … {fewest} images; nothing of '{NEW}'")
    _command("train", "--recipe", "demo", "--data", data, "--crop", "1", "--out", str(out / "run"))
    _say(f"   {time.monotonic() - started:.0f} s")
    _say(f"2  serve {out}/run/bundle, and remember the answers")
    serve = ["serve", "--bundle", f"{out}/run/bundle", "--store", f"{out}/store", "--port", str(port)]
    serve += ["--remember", str(REMEMBER), "--access-log", "none"]
    server = subprocess.Popen([sys.executable, "-P", "-m", "breadcrumbs", *serve], pass_fds=(mark,))
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_ready(client, server)
            steps = _walk(client, photos)
        if as_json:
            tell_json({"images": len(photos.reported), "new": NEW, "steps": [asdict(step) for step in steps]})
        else:
            _table(steps, len(photos.reported))
        if stay:
            _say(f"the server stays up: http://127.0.0.1:{port}/   (Ctrl-C stops it)")
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        _stop(server)


def write_photos(out: Path, *, as_json: bool = False) -> None:
    """Write the photos that the demo trains on and those that arrive later, and do nothing with them.

    Raises:
        DemoFailed: the folder is in use, or something else made it.
    """
    with own(out):
        photos = _photos(out)
    folders = {"photos": str(out / TRAINED_ON), "new_photos": str(out / ARRIVED)}
    if as_json:
        tell_json(folders)
        return
    _say(f"{folders['photos']}: {len(photos.trained)} classes to train on; nothing of '{NEW}'")
    _say(f"{folders['new_photos']}: {len(photos.arriving)} photos that arrive later, {NEW}s among them")


def _photos(out: Path) -> Photos:
    """The photos, with those to train on and those that arrive in folders below `out`."""
    photos = deal(out / TRAINED_ON)
    lay(out / ARRIVED, photos.arriving)
    return photos


def _walk(client: Client, photos: Photos) -> list[Learned]:
    """The server as it was trained, and after each refit, until one with the new class is live."""
    _say(f"3  photos arrive one by one, {NEW}s among them; somebody corrects each wrong answer")
    _say(f"   after every {EVERY} corrections a head is fitted to all of them and to the rows that it was trained on")
    steps = list[Learned]()
    for step in stream(client, photos.arriving, lambda: recognised(client, photos)):
        steps.append(step)
        if step.gate is not None:
            _say(f"   {step.photos} photos, {step.corrections} corrections, {step.new} of them {NEW}s: {step.note}")
        if step.recognised.knows:
            return steps
    _say(f"   all {len(photos.arriving)} photos have come, and no head that knows {NEW}s is live")
    return steps


def _check_free(port: int) -> None:
    """Refuse a port where somebody else listens: it would be that server that answered."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoFailed(f"port {port} is taken ({error.strerror}); choose another with --port") from error


def _say(text: str) -> None:
    show(text, screen)


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


def _table(steps: list[Learned], images: int) -> None:
    names = [f"{name} (new)" if name == NEW else name for name in steps[0].recognised.recalls]
    title = f"recognised in %, {images} other images over HTTP"
    table = Table("corrections", f"of {NEW}s", "gate", "live head", *names, f"{NEW}s are called", title=title)
    for step in steps:
        told = step.recognised
        called = ", ".join(f"{name} {count}" for name, count in list(told.new_as.items())[:CALLED])
        shown = [f"{100 * told.recalls[name]:.1f}" for name in told.recalls]
        table.add_row(str(step.corrections), str(step.new), step.gate or "", str(told.head), *shown, called)
    show(table, screen)
