"""A refit's child that obeys the contract, or breaks it in a named way; a real program, without any mathematics.

python fake_refit.py [MODE [FILE]] --bundle B --head H --snapshot S … --spec J --out DIR --device D --json
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

sys.path.insert(0, str(Path(__file__).parents[2]))

from breadcrumbs.models.head import LinearHead

ANSWERS = {"worse": ("no", ["few fell by 0.2"]), "unmeasured": ("not measured", ["no judged row of: elm"])}
REPORT = Path(__file__).with_name("refit_report.json")


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(event: str, **more: object) -> None:
    out(json.dumps({"event": event, **more}))


def write_report(mode: str, file: Path | None, digest: str, live: str, source: str, out: Path) -> None:
    """First what decides, then, after whatever the mode does in between, the whole report."""
    answer, reasons = ANSWERS.get(mode, ("yes", []))
    gate = {"answer": answer, "reasons": reasons}
    report = json.loads(REPORT.read_text())
    report["origin"]["candidate"] = digest
    report["holdout"]["source"] = source
    if mode == "measures":
        measure(report)
    report["gate"] = {} if mode == "no-gate" else gate
    report["candidate"] |= {"all": 0.9, "few": 0.8}
    report["live"] |= {"all": 0.5, "few": 0.1}
    judged = {
        "format": "breadcrumbs.judged/1",
        "candidate": digest,
        "live": live,
        "rows": report["rows"],
        "holdout": source,
    }
    judged |= {"gate": report["gate"], "candidate_metrics": report["candidate"]}
    judged |= {"judged_examples": 2} if mode == "examines" else {}
    judged |= {"live": "0" * 64} if mode == "other-live" else {}
    text = "{" if mode == "half-judged" else json.dumps(judged)
    number = {"nan": "NaN,", "huge": "1e999,"}.get(mode, "0.9,")
    if mode != "no-judged":
        (out / "judged.json").write_text(text.replace("0.9,", number))
    say("judged")
    between(mode, file)
    report["origin"]["candidate"] = "1" * 64 if mode == "report-of-another" else digest
    report["gate"] = {"answer": "no", "reasons": ["no"]} if mode == "report-other-gate" else report["gate"]
    text = "{" if mode == "half-report" else json.dumps(report)
    if mode != "no-report":
        (out / "report.json").write_text(text)
    if mode != "no-page":
        (out / "report.html").write_text("<script>alert(1)</script>" * (2_000_000 if mode == "fat" else 1))


def measure(report: dict[str, Any]) -> None:
    """Say it of the tiny bundle's own classes, and of how many rows of each."""
    names = ["oak", "elm", "Wollemia nobilis"]
    report["classes"]["names"], report["class_rows"] = names, [8, 8, 8]
    report["new_classes"] = []
    report["moves"] = [{"true": "oak", "predicted": "elm", "live": 0, "candidate": 2}]


def between(mode: str, file: Path | None) -> None:
    """What happens after the head was judged, and before there is a report."""
    if file is not None and mode == "reports":
        file.with_suffix(".pid").write_text(str(os.getpid()))
        while not file.exists():
            time.sleep(0.01)
    if file is not None and mode == "waits":
        while file.with_suffix(".hold").exists():
            time.sleep(0.01)
    if mode == "crashes-late":
        sys.stderr.write("Traceback: secret words\n")
        sys.exit(1)
    if mode == "mistaken-late":
        say("error", error={"type": "refit", "message": "no room for the report"})
        sys.exit(2)


def edit(weight: np.ndarray, classes: list[str], names: dict[str, str | None]) -> tuple[np.ndarray, list[str]]:
    """The rows of the classes that are left, each where its first part was."""
    became = [names.get(name, name) for name in classes]
    left = [name for name in dict.fromkeys(became) if name is not None]
    return weight[[became.index(name) for name in left]], left


def examined(path: Path) -> dict[str, list[Any]]:
    """The rows of a file of examples, by its data set: features, labels and ids."""
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    rows = load_file(path)
    names = [json.loads(about["classes"])[label] for label in rows["labels"]]
    return {about["dataset"]: [rows["features"].tolist(), names, rows["ids"].tolist()]}


def linger(mode: str, file: Path) -> None:
    """Take long, or for ever."""
    if mode in {"hangs", "deaf"}:
        file.write_text(str(os.getpid()))
        time.sleep(600)
    if mode == "greedy":
        held = bytearray(os.urandom(1 << 20) * 200)
        time.sleep(600)
        held.clear()
    if mode == "solves":
        say("stage", stage="transfer")
        say("stage", stage="choose")
        say("stage", stage="solve")
        say("progress", l2=0.001, iteration=9, gradient_norm=3.8e-6, objective=1.0)
    if mode in {"waits", "solves"}:
        while not file.exists():
            time.sleep(0.01)


def read_arguments() -> argparse.Namespace:
    """The command line that the server gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", nargs="?", default="good")
    parser.add_argument("file", nargs="?", type=Path)
    for name in ("--bundle", "--head", "--holdout", "--gate-holdout", "--spec", "--out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--snapshot", type=Path, action="append", default=[])
    parser.add_argument("--examples", type=Path, action="append", default=[])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), required=True)
    for name in ("--json", "--no-new-bundle"):
        parser.add_argument(name, action="store_true", required=True)
    return parser.parse_args()


def main() -> int:
    arguments = read_arguments()
    mode = arguments.mode
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("stage", stage="read")
    linger(mode, arguments.file)
    if mode == "places":
        arguments.file.write_text(arguments.device)
    if mode == "examines":
        arguments.file.write_text(json.dumps([examined(path) for path in arguments.examples]))
    if mode == "judges":
        given = (arguments.gate_holdout, arguments.holdout)
        arguments.file.write_text(
            json.dumps([path and hashlib.sha256(path.read_bytes()).hexdigest() for path in given])
        )
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
    live = load_file(arguments.head)
    with safe_open(arguments.head, "numpy") as file:
        classes = json.loads(file.metadata()["classes"])
    compared = LinearHead(live["weight"], live["bias"], tuple(classes)).digest
    for path in arguments.snapshot:
        load_file(path)["features"]
    spec = json.loads(arguments.spec.read_text())
    say("progress", iteration=1, gradient_norm=0.5, objective=1.0)
    if mode == "copies-spec":
        arguments.file.write_text(json.dumps(spec))
    weight, classes = edit(live["weight"] * 2, classes, {} if mode == "ignores-edits" else spec["classes"])
    if mode == "wrong-dimension":
        weight = np.zeros((3, 9), np.float32)
    if mode == "loses-class":
        weight, classes = weight[:2], classes[:2]
    if mode == "grows":
        weight, classes = np.concatenate([weight, weight[:1] + 1]), [*classes, "yew"]
    bias = np.zeros(len(weight), np.float32)
    head = save({"weight": weight, "bias": bias}, {"format": "breadcrumbs.head/1", "classes": json.dumps(classes)})
    (arguments.out / "head.safetensors").write_bytes(head[: 40 if mode == "half-head" else None])
    digest = "0" * 64 if mode == "other-head" else LinearHead(weight, bias, tuple(classes)).digest
    source = "pinned" if arguments.gate_holdout else "snapshot" if arguments.holdout else "split"
    write_report(mode, arguments.file, digest, compared, source, arguments.out)
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
