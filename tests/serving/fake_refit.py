"""A refit's child that obeys the contract, or breaks it in a named way; a real program, without any mathematics.

python fake_refit.py [MODE [FILE]] --bundle B --head H --snapshot S … --spec J --out DIR --json
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from models import head as heads
from models import snapshot as snapshots
from models.head import LinearHead


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(event: str, **more: object) -> None:
    out(json.dumps({"event": event, **more}))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", nargs="?", default="good")
    parser.add_argument("file", nargs="?", type=Path)
    for name in ("--bundle", "--head", "--holdout", "--spec", "--out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--snapshot", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true", required=True)
    arguments = parser.parse_args()
    mode = arguments.mode
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("stage", stage="read")
    if mode in {"hangs", "deaf"}:
        arguments.file.write_text(str(os.getpid()))
        time.sleep(600)
    if mode == "waits":
        while not arguments.file.exists():
            time.sleep(0.01)
    if mode == "mistake":
        say("error", error={"type": "refit", "message": "class 'elm' has 1 example; expected 2"})
        return 2
    if mode == "crashes":
        sys.stderr.write("Traceback: secret words\n")
        return 1
    if mode == "mumbles":
        out("not JSON")
    if mode == "rants":
        out("x" * 100_000)
    if mode == "silent":
        return 0
    live = heads.read(arguments.head)
    for path in arguments.snapshot:
        snapshots.read(path)
    json.loads(arguments.spec.read_text())
    say("progress", iteration=1, gradient_norm=0.5, objective=1.0)
    head = LinearHead(live.weight * 2, live.bias, live.classes)
    if mode == "wrong-dimension":
        head = LinearHead(np.zeros((3, 9), np.float32), live.bias, live.classes)
    if mode == "loses-class":
        head = LinearHead(live.weight[:2], live.bias[:2], live.classes[:2])
    if mode == "grows":
        weight = np.concatenate([live.weight, live.weight[:1] + 1])
        head = LinearHead(weight, np.zeros(len(weight), np.float32), (*live.classes, "yew"))
    (arguments.out / "head.safetensors").write_bytes(heads.to_bytes(head)[: 40 if mode == "half-head" else None])
    gate = {"passed": mode != "worse", "reasons": ["few fell by 0.2"] if mode == "worse" else []}
    report = {"gate": gate, "candidate": {"all": 0.9, "few": 0.8}, "live": {"all": 0.5, "few": 0.1}}
    text = "{" if mode == "half-report" else json.dumps({"gate": {}} if mode == "no-gate" else report)
    if mode != "no-report":
        (arguments.out / "report.json").write_text(text.replace("0.9", "NaN") if mode == "nan" else text)
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
