"""Learning from use, once, as a user would walk it: commands in child processes, everything else over HTTP.

photos in folders -> train -> serve -> predict -> correct answers -> refit -> the gate -> live -> before / after
"""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from breadcrumbs.demo.folder import DemoFailed, own
from breadcrumbs.demo.photos import NEW, Photo, Photos, deal, lay
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.terminal.refit_events import tell_json
from breadcrumbs.training.terminal.tables import show

START_SECONDS = 60
INTERRUPTED = 130  # the command line's status
REQUEST_IMAGES = 50
REMEMBER = 10_000  # answers
TRAINED_ON, ARRIVED = "photos", "new-photos"  # folders

screen = Console()

Recalls = dict[str, float]
"""Share of the reported images that were recognised, of each group and of the new class."""


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
            rows = _walk(client, photos)
        if as_json:
            tell_json({"images": len(photos.reported), "heads": rows})
        else:
            _table(rows, len(photos.reported))
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


def _walk(client: Client, photos: Photos) -> dict[str, Recalls]:
    """What was measured of each head, by its name."""
    _say(f"3  predict {len(photos.reported)} other images over HTTP, {NEW}s among them")
    before, first = _measure(client, photos)
    _say(f"4  {len(photos.arriving)} new photos arrive, {NEW}s among them; somebody says what each shows")
    wrong = _correct(client, photos.arriving)
    _say(f"   the server had {wrong} of them wrong")
    _say("5  refit the head from these examples and the rows that it was trained on")
    job = client.refit(spec=RefitSpec(allow_new_classes=True), examples="verified")
    done = client.wait(job.id)
    if done.state != "succeeded" or done.verdict is None:
        raise DemoFailed(f"refit {job.id} {done.state}: {done.error.message if done.error else ''}")
    verdict = done.verdict
    _say(
        f"   the gate compares it with head {first} on images that neither was fitted to, and says {verdict.gate.words}"
    )
    _say(f"6  head {verdict.head} {'is live' if verdict.activated else 'stays a candidate: ' + verdict.note}")
    after, second = _measure(client, photos)
    if verdict.activated and second != verdict.head:
        raise DemoFailed(f"head {second} answered; head {verdict.head} should be live")
    return {f"head {first}, as trained": before, f"head {second}, after {len(photos.arriving)} labels": after}


def _correct(client: Client, arriving: list[Photo]) -> int:
    """Predict the photos that arrive and label the answers; how many of these were wrong."""
    said, wrong = list[LabelBody](), 0
    answered = [
        prediction
        for first in range(0, len(arriving), REQUEST_IMAGES)
        for prediction in client.predict([photo.data for photo in arriving[first : first + REQUEST_IMAGES]]).predictions
    ]
    for photo, prediction in zip(arriving, answered, strict=True):
        wrong += prediction.classes[0].name != photo.cls
        label = {"answer": prediction.id, "class": photo.cls, "by": "demo", "verified": True}
        said.append(LabelBody.model_validate(label))
    client.labels(said)
    return wrong


def _measure(client: Client, photos: Photos) -> tuple[Recalls, int]:
    """Predict every reported image over HTTP: the recall of each group and of the new class, and the head."""
    answered, hits = set[int](), list[bool]()
    for first in range(0, len(photos.reported), REQUEST_IMAGES):
        some = photos.reported[first : first + REQUEST_IMAGES]
        answer = client.predict([photo.data for photo in some], top_k=1)
        answered.add(answer.head.version)
        told = [prediction.classes[0].name for prediction in answer.predictions]
        hits += [name == photo.cls for name, photo in zip(told, some, strict=True)]
    if len(answered) != 1:
        raise DemoFailed(f"heads {sorted(answered)} answered; expected one")
    return _recalls(photos, np.array(hits)), answered.pop()


def _recalls(photos: Photos, hits: np.typing.NDArray[np.bool_]) -> Recalls:
    group_of = dict(zip(photos.trained, groups(tuple(photos.trained.values()), "A"), strict=True))
    kind = np.array([group_of.get(photo.cls, NEW) for photo in photos.reported])
    found = {name: float(hits[kind == name].mean()) for name in (*GROUPS, NEW)}
    return {**found, "all": float(hits.mean())}


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


def _table(rows: dict[str, Recalls], images: int) -> None:
    columns = next(iter(rows.values()))
    names = [f"{name} (new)" if name == NEW else name for name in columns]
    table = Table("head", *names, title=f"recognised in %, {images} images over HTTP")
    for head, recalls in rows.items():
        table.add_row(head, *(f"{100 * recalls[name]:.1f}" for name in columns))
    show(table, screen)
