"""A server to which all happens at once: load, uploads, refits, swaps, trials, lines, labels; kill -9, a full disk.

    python benchmarks/chaos.py [--seconds 300] [--users 4] [--seed 0]

The server is `breadcrumbs serve` on the embedded bundle and remembers its answers, refits are real. Somebody labels all
the time, so that kills come while labels are written. Canaries answer with heads that are not live, and some heads
that go live are watched. Half of the requests name a line, or several; heads go live in the lines all the time, so that
kills come while their logs are written. It counts what users feel: requests sent, answered and wrong (each answer is
compared with the head that it names, read from the store afterwards), answers of a line by a head that was never live
there, answers of which the store remembers another head than their user was told, acknowledged writes that are gone,
and how long no request was answered after each kill. Exit status 1 if an answer was wrong or a write was lost.
The disk is filled only where this process may mount one of its own.
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from audit import BUNDLE, Acknowledged, Answer, Row, lost, mistold, strayed, told, wrong
from PIL import Image

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.processes.child import family
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.lines import folder
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.state.store import Store, StoreError
from breadcrumbs.serving.trials.state import TrialState
from breadcrumbs.serving.trials.trial import TrialSpec
from breadcrumbs.serving.upkeep import verify
from breadcrumbs.training.config import RefitSpec

ROOT = Path(__file__).parents[1]
with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
PHOTOS = 64
DISK = 256 * 2**20
PAUSE = 0.03  # seconds of a user between an answer and the next request
REMEMBER = 1_000_000


Activate = Literal["never", "if_better", "always"]


class Chaos:
    """One server, and what is done to it.

    Args:
        folder: for its store; on a disk of its own where it may be filled.
        fillable: whether it may.
        seed: of what happens when.
    """

    def __init__(self, folder: Path, fillable: bool, seed: int) -> None:
        self.store = folder / "store"
        self.known = Acknowledged(set(), set(), {}, {}, {}, set(), {})
        self.lines: list[str] = []
        self.happened: Counter[str] = Counter()
        self.kills: list[float] = []
        self.damaged: set[int] = set()
        self._folder, self._fillable, self._draw = folder, fillable, random.Random(seed)
        self._snapshot = bundles.read(BUNDLE).snapshots()[0]
        self._server = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        line = [sys.executable, "-m", "breadcrumbs", "serve", "--store", str(self.store), "--port", str(PORT)]
        line += ["--access-log", "none", "--device", "cpu", "--remember", str(REMEMBER)]
        line += ["--refit-cpu", "share"]  # an idle refit beside a busy machine ends when the load does
        with (self._folder / ".." / "log").open("ab") as log:
            server = subprocess.Popen(line, cwd=ROOT, stderr=log, stdout=log)
        while server.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return server
            time.sleep(0.05)
        raise RuntimeError(f"the server does not start: {(self._folder / '..' / 'log').read_text()[-3000:]}")

    def run(self, seconds: float) -> None:
        """Let things happen."""
        until = time.monotonic() + seconds
        acts = [self.upload, self.refit, self.refit, self.activate, self.activate, self.rollback, self.kill_child]
        acts += [self.label, self.label_answer, self.canary, self.canary, self.bake]
        acts = [self.create_line, *acts, self.damage_line_log]
        acts += [self.kill, self.damage, self.damage_log] + [self.fill] * self._fillable
        for act in acts:  # each once, then as it comes
            self._do(act)
        while time.monotonic() < until:
            self._do(self._draw.choice(acts))
            time.sleep(self._draw.random())

    def change_lines(self, over: threading.Event) -> None:
        """Let heads go live in lines, and go back, until it is over."""
        while not over.wait(0.3):
            if self.lines:
                self._do(self._draw.choice([self.activate_line, self.activate_line, self.rollback_line]))

    def _do(self, act: Any) -> None:
        with Client(f"http://127.0.0.1:{PORT}", timeout=60) as client:
            try:
                act(client)
                self.happened[act.__name__] += 1
            except ServerError as error:
                self.happened[f"{act.__name__} refused: {error.kind}"] += 1

    def upload(self, client: Client) -> None:
        """Upload a snapshot that is new."""
        noise = np.random.default_rng(self._draw.getrandbits(32)).normal(size=self._snapshot.features.shape)
        features = (self._snapshot.features + 0.01 * noise).astype(np.float32)
        one = self._snapshot
        drawn = snapshots.Snapshot(features, one.labels, one.classes, one.backbone, one.epoch + 1)
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(snapshots.to_bytes(drawn))
            self.known.snapshots.add(client.put_snapshot(Path(file.name)).sha256)

    def label(self, client: Client) -> None:
        """Label features that are new."""
        one, said = self._snapshot, []
        for row in self._draw.sample(range(len(one.labels)), 20):
            feature = one.features[row] * np.float32(self._draw.uniform(0.9, 1.1))
            fields = {"feature": feature.tolist(), "class": one.classes[one.labels[row]]}
            said.append(LabelBody.model_validate(fields))
        done = client.labels(said)
        self.known.labels.update((is_.example, str(was.cls)) for is_, was in zip(done.labels, said, strict=True))

    def teach(self, over: threading.Event) -> None:
        """Label without pause until it is over; what is refused, or not acknowledged, does not count."""
        with Client(f"http://127.0.0.1:{PORT}", timeout=60) as client:
            while not over.wait(0.3):
                with contextlib.suppress(ServerError):
                    self.label(client)

    def label_answer(self, client: Client) -> None:
        """Label an answer at once, and another one when the store has it."""
        for wait in (False, True):
            picture = np.random.default_rng(self._draw.getrandbits(32)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            found = client.predict([file.getvalue()]).predictions[0].id
            if found is None:
                raise RuntimeError("an answer has no id")
            if wait:
                self.known.answers.add(client.answer(found).id)
            said = LabelBody.model_validate({"answer": found, "class": self._draw.choice(self._snapshot.classes)})
            self.known.labels[client.labels([said]).labels[0].example] = str(said.cls)

    def refit(self, client: Client) -> None:
        """Start a refit that goes live; some are waited for."""
        sha = self._draw.choice(sorted(self.known.snapshots))
        job = client.refit([sha], self._spec("always").model_copy(update={"use_bundle_snapshots": False}))
        self.known.jobs.add(job.id)
        if self._draw.random() < 0.7:
            client.wait(job.id)

    def _spec(self, activate: Activate) -> RefitSpec:
        """A refit that chooses nothing, so that it is short, and makes a head unlike the others."""
        l2 = 10 ** self._draw.uniform(-4, -2)
        return RefitSpec(activate=activate, members=("plain",), transfer="emanate", l2=l2, prior_offset=1.0)

    def activate(self, client: Client) -> None:
        """Make some head live."""
        self._went_live(client.activate(self._sound(client), "chaos"))

    def create_line(self, client: Client) -> None:
        """Begin a line, of which the users hear."""
        made = client.create_line(f"line-{len(self.lines)}", self._sound(client), "chaos")
        self._went_live(made.activation, made.name)
        self.lines.append(made.name)

    def activate_line(self, client: Client) -> None:
        """Make some head live in some line."""
        line = self._draw.choice(self.lines)
        self._went_live(client.activate(self._sound(client), "chaos", line=line), line)

    def rollback_line(self, client: Client) -> None:
        """Go back in some line."""
        line = self._draw.choice(self.lines)
        self._went_live(client.rollback("chaos", line=line), line)

    def _went_live(self, done: Activation, line: str = DEFAULT) -> None:
        self.known.activations[line, done.number] = done.head

    def canary(self, client: Client) -> None:
        """Let some head answer a share of the requests for a while."""
        head, share = self._sound(client, live=False), self._draw.uniform(0.05, 0.5)
        spec = TrialSpec(head=head, mode="canary", share=share, until="5s")
        self._tried(client.start_trial(spec))

    def bake(self, client: Client) -> None:
        """Make some head live and watch it."""
        done = client.activate(self._sound(client, live=False), "chaos", bake="5s", stop_if=StopIf(disagreement=0.9))
        self._went_live(done)
        self._tried(*(client.trial(one.start.number) for one in client.trials()[:1]))

    def _tried(self, *states: TrialState) -> None:
        self.known.trials.update((one.start.number, one.start.head) for one in states)

    def _sound(self, client: Client, live: bool = True) -> int:
        """Some head that is not damaged; with live=False, one that is not live."""
        found = client.heads()
        bad = self.damaged if live else self.damaged | {found.live}
        return self._draw.choice([record.version for record in found.heads if record.version not in bad])

    def rollback(self, client: Client) -> None:
        """Go back."""
        self._went_live(client.rollback("chaos"))

    def kill_child(self, client: Client) -> None:
        """Kill a refit's process."""
        job = client.refit([], self._spec("if_better"))
        self.known.jobs.add(job.id)
        time.sleep(1.0)
        for pid in family(self._server.pid)[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        client.wait(job.id)

    def kill(self, _: Client) -> None:
        """Kill the server, and start it again."""
        self._stop()
        self._server = self._start()

    def _stop(self) -> None:
        self.kills.append(time.monotonic())
        self._server.kill()
        self._server.wait()

    def damage(self, client: Client) -> None:
        """Change a byte of the live head, and start again: the last good one takes over."""
        found = client.heads()
        live = found.live
        if live == 1:  # keep one that is good
            live = max(record.version for record in found.heads if record.version not in self.damaged)
            self._went_live(client.activate(live, "chaos"))
        path = self.store / heads.folder(live) / "head.safetensors"
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
        self.damaged.add(live)
        self.kill(client)

    def damage_log(self, client: Client) -> None:
        """Cut the newest record of the log in two while no server runs: the last good activation takes over."""
        self._cut(DEFAULT, client)

    def damage_line_log(self, client: Client) -> None:
        """The same of the log of a line."""
        self._cut(self._draw.choice(self.lines), client)

    def _cut(self, line: str, client: Client) -> None:
        self._stop()
        path = max((self.store / folder(line)).glob("*.json"))
        number, whole = int(path.stem), path.read_bytes()
        self.known.cut[line, number] = json.loads(whole)[
            "head"
        ]  # acknowledged or not: the server does not lose it, we do
        path.write_bytes(whole[:60])
        self._server = self._start()
        after = {one.number: one.actor for one in client.activations(line=line)}
        if after.get(number + 1) != "server":
            raise RuntimeError(f"activation {number} of the line {line} was damaged; the server went on with {after}")

    def fill(self, client: Client) -> None:
        """Fill the disk; a write is refused, reading goes on; then there is room again."""
        filler = self._folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        try:
            for write in (self.label, self.upload):
                self._refused(write, client)
        finally:
            filler.unlink(missing_ok=True)

    def _refused(self, write: Any, client: Client) -> None:
        """Write on a full disk; a small thing may find room."""
        try:
            write(client)
        except ServerError as error:
            if error.kind not in {"store_full", "store"}:
                raise
            self.happened[f"disk full: {error.status}"] += 1

    def end(self) -> None:
        """Stop the server in order."""
        self._server.terminate()
        self._server.wait(60)


def ask(photos: list[bytes], lines: list[str], first: int, over: threading.Event, rows: list[Row]) -> None:
    """One user: a request at a time until it is over, every other one to a line or to several at once."""
    connection, photo, draw = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30), first, random.Random(first)
    while not over.is_set():
        photo = (photo + 1) % len(photos)
        known = [DEFAULT, *lines]
        asked = draw.sample(known, min(len(known), draw.choice([0, 0, 1, 3])))
        query = "&".join(f"line={one}" for one in asked)
        try:
            connection.request("POST", f"/v1/predict?{query}", photos[photo], {"content-type": "image/png"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            rows.append(Row(time.monotonic(), photo, failure=type(error).__name__))
            connection.close()
            time.sleep(0.02)
            continue
        if answer.status != 200:
            rows.append(Row(time.monotonic(), photo, failure=str(answer.status)))
            continue
        by_line = body.get("lines") or {"".join(asked) or DEFAULT: body}
        rows.append(Row(time.monotonic(), photo, tuple(answer_of(line, one) for line, one in by_line.items())))
        time.sleep(PAUSE)  # steady load is enough; the rows are kept in memory


def answer_of(line: str, body: dict[str, Any]) -> Answer:
    """What a line said of one image, from the JSON."""
    (one,) = body["predictions"]
    classes = {found["index"]: found["probability"] for found in one["classes"]}
    return Answer(line, body["head"]["version"], classes, one["id"] or "")


def draw_photos() -> list[bytes]:
    """Random pictures of the demo's size, as PNG files."""
    transform, draw, found = bundles.read(BUNDLE).preprocess, np.random.default_rng(0), []
    for _ in range(PHOTOS):
        coarse = draw.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((transform.width, transform.height)).save(file, "PNG")
        found.append(file.getvalue())
    return found


@contextlib.contextmanager
def disk() -> Iterator[tuple[Path, bool]]:
    """A folder, on a small disk of its own where that may be made."""
    with tempfile.TemporaryDirectory(prefix="breadcrumbs-chaos-") as name:
        place = Path(name) / "disk"
        place.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", place], check=False, capture_output=True
        ).returncode == 0  # fmt: skip
        try:
            yield place, mounted
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", place], check=False)


def main() -> None:
    """Let it happen, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    photos, over, rows = draw_photos(), threading.Event(), list[Row]()
    with disk() as (room, fillable):
        chaos = Chaos(room, fillable, given.seed)
        places = [k * PHOTOS // given.users for k in range(given.users)]
        users = [threading.Thread(target=ask, args=(photos, chaos.lines, place, over, rows)) for place in places]
        users += [threading.Thread(target=act, args=(over,)) for act in (chaos.teach, chaos.change_lines)]
        for user in users:
            user.start()
        try:
            chaos.run(given.seconds)
        finally:
            over.set()
            for user in users:
                user.join()
            chaos.end()
        gone = lost(chaos.known, chaos.store)
        findings = asyncio.run(verify(Store.open(chaos.store))).findings
        false = wrong(rows, photos, chaos.store, chaos.damaged)
        other = asyncio.run(mistold(rows, Store.open(chaos.store)))
        stray = asyncio.run(strayed(rows, chaos.known, Store.open(chaos.store)))
    missed = sum(row.failure == "404" for row in rows)  # an acknowledged line that was not found
    by_lines = sum(answer.line != DEFAULT for answer in told(rows))
    unforeseen = [
        f for f in findings if f.kind == "damaged" and not any(heads.folder(v) in f.name for v in chaos.damaged)
    ]
    answered = sorted(row.at for row in rows if not row.failure)
    downtimes = [next((at for at in answered if at > kill), kill) - kill for kill in chaos.kills]
    down = f"{statistics.median(downtimes):.2f} s, at most {max(downtimes):.2f} s" if downtimes else "never"
    counts = len(chaos.known.snapshots), len(chaos.known.jobs), len(chaos.known.activations)
    print(f"happened: {dict(sorted(chaos.happened.items()))}{'' if fillable else '; no right to fill a disk here'}")
    print(f"requests: {len(rows)} sent, {len(answered)} answered, {false} wrong; "
          f"not answered: {dict(Counter(row.failure for row in rows if row.failure))}")  # fmt: skip
    print(f"lines: {len(chaos.lines)}, {by_lines} answers; by a head that was never live there: {stray}; "
          f"not found: {missed}")  # fmt: skip
    print(f"acknowledged: {counts[0]} snapshots, {counts[1]} refits, {counts[2]} activations, "
          f"{len(chaos.known.trials)} trials, {len(chaos.known.labels)} labels, {len(chaos.known.answers)} answers; "
          f"lost: {gone or 0}; remembered with another head: {other}")  # fmt: skip
    print(f"killed {len(chaos.kills)} times; nothing answered for {down}; other damage: {unforeseen or 0}")
    sys.exit(bool(false or gone or unforeseen or other or stray or missed))


if __name__ == "__main__":
    try:
        main()
    except StoreError as error:
        sys.exit(f"the store: {error}")
