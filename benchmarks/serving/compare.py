"""Servers beside each other and beside the ceiling, in one run: requests a second and latency in a closed loop.

    python benchmarks/serving/compare.py [--models resnet18 resnet10t] [--servers …] [--concurrency 1 16 64]
        [--seconds 8] [--repeats 3] [--device cpu] [--out runs/serving] [--ours "--max-batch 8"]

Every repeat starts every server anew, in another order, on the same bundle and photos (`materials.py`); load comes from
a process of its own (`load.py`), which checks every answer; half a measurement warms up first. The table has medians
over the repeats and the extremes; the JSON beside it everything. The peers' environment is made where it is missing.
Where no server is asked with photos, the ceiling decodes none either. With `--device cuda` ours and the ceiling run on
the GPU; the peers are measured on a CPU only.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from servers import HERE, ROOT, SERVERS, Running, running
from wire import FORMS, v2_pixels

PORT = 8931
OPTIONAL = ("bentoml==1.4.39",)
"""Peers that the registries do not always have all the parts of."""
TOLERANCE = {"cpu": 1e-3, "cuda": 1e-2}
"""Of a probability; see `load.py`."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet10t"])
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "serving")
    parser.add_argument("--peers", type=Path, default=ROOT / "runs", help="where the peers' environments are")
    parser.add_argument(
        "--triton-python",
        default="/usr/bin/python3",
        help="for PyTriton 0.7.0: Python 3.11, older than 3.11.7",
    )
    parser.add_argument("--ours", default="", help="more flags for our server")
    parser.add_argument("--device", choices=list(TOLERANCE), default="cpu")
    given = parser.parse_args()
    if given.device == "cuda" and (peers := [name for name in given.servers if SERVERS[name].peer]):
        parser.error(f"--device cuda: name --servers of ours; the peers are measured on a CPU only: {', '.join(peers)}")
    wanted = {SERVERS[name].peer for name in given.servers}
    if "peers" in wanted:
        install(given.peers / "peers", sys.executable, "peers.txt", OPTIONAL)
    if "peers-triton" in wanted:
        install(given.peers / "peers-triton", given.triton_python, "peers-triton.txt")
    for model in given.models:
        folder = given.out / model
        if not (folder / "snapshot.safetensors").exists():
            python(HERE / "materials.py", str(given.out), model)
        rows = measure(folder, given)
        (folder / "rows.json").write_text(json.dumps(rows, indent=1))
        table(model, rows, given.concurrency)


def install(place: Path, interpreter: str, wanted: str, optional: Sequence[str] = ()) -> None:
    """Make an environment of peers, once."""
    if (place / wanted).exists():
        return
    subprocess.run([interpreter, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "-r", HERE / wanted], check=True)
    for one in optional:
        if subprocess.run([*pip, one], check=False).returncode:
            print(f"{one} cannot be installed beside the others now; it is left out", file=sys.stderr)
    (place / wanted).touch()


def python(*argv: "str | Path", text: str | None = None) -> str:
    """Run a program of ours and return what it prints."""
    command = [sys.executable, *map(str, argv)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, input=text, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout


def measure(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each repeat, server and concurrency, and one for each repeat's ceiling."""
    rows: list[dict[str, Any]] = []
    bare = ["--seconds", str(given.seconds / 4), "--device", given.device]
    if all(FORMS[SERVERS[name].form].build is v2_pixels for name in given.servers):
        bare.append("--pixels")
    for repeat in range(given.repeats):
        rows.append({"server": "ceiling", **json.loads(python(HERE / "ceiling.py", folder, *bare))})
        turn = repeat * len(given.servers) // given.repeats
        for name in given.servers[turn:] + given.servers[:turn]:
            try:
                rows += serve(name, folder, given)
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
    return rows


def serve(name: str, folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Start one server and load it at each concurrency."""
    server, work = SERVERS[name], folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    extra = ["--device", given.device, *given.ours.split()] if not server.peer else []
    with running(server, folder / "bundle", work, PORT, given.peers, extra) as process:
        idle = process.resident()
        ask = partial(load, folder, server.form, process, TOLERANCE[given.device])
        ask(4, given.seconds / 2)
        rows = [ask(users, given.seconds) for users in given.concurrency]
        found = {"server": name, "ready_seconds": process.seconds, "idle_mib": idle, "loaded_mib": process.resident()}
    return [found | row for row in rows]


def load(folder: Path, form: str, process: Running, tolerance: float, users: int, seconds: float) -> dict[str, Any]:
    """Load a server and return what became of it."""
    answers = str(folder / "probabilities.npy")
    spec = {
        "form": form, "port": process.port, "folder": str(folder), "expected": {"": answers, "1": answers},
        "concurrency": users, "seconds": seconds, "tolerance": tolerance,
    }  # fmt: skip
    found: list[tuple[float, float, str]] = json.loads(python(HERE / "load.py", text=json.dumps(spec) + "\n"))
    took = sorted(took for _, took, verdict in found if verdict == "right")
    failures = sorted({verdict for _, _, verdict in found} - {"right"})
    span = max(at for at, _, _ in found) - min(at - took for at, took, _ in found)
    return {
        "concurrency": users, "requests_per_second": len(took) / span, "failed": len(found) - len(took),
        "failures": failures, "p50_ms": 1000 * at(took, 0.5), "p99_ms": 1000 * at(took, 0.99),
    }  # fmt: skip


def at(values: Sequence[float], share: float) -> float:
    """The value that a share of the sorted values is not above; none: not a number."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def table(model: str, rows: list[dict[str, Any]], concurrency: Sequence[int]) -> None:
    """Print one model's."""
    top = [row for row in rows if row["server"] == "ceiling"]
    ways = {way: statistics.median(row["images_per_second"][way] for row in top) for way in top[0]["images_per_second"]}
    best = max(ways, key=lambda way: ways[way])
    call, decode = (statistics.median(row[name] for row in top) for name in ("call_ms", "decode_ms"))
    print(
        f"\n{model}: ceiling {ways[best]:.1f} images/s ({best}); a lone call {call:.2f} ms, decoding {decode:.2f} ms\n"
    )
    heads = " | ".join(f"{users}: requests/s | p50, p99 ms" for users in concurrency)
    print(
        f"| server | {heads} | failed | ready, s | idle, loaded MiB |\n" + "| --- " * (4 + 2 * len(concurrency)) + "|"
    )
    for name in dict.fromkeys(row["server"] for row in rows if row["server"] != "ceiling"):
        own = [row for row in rows if row["server"] == name]
        cells = []
        for users in concurrency:
            same = [row for row in own if row["concurrency"] == users]
            rates = [row["requests_per_second"] for row in same]
            cells.append(f"{statistics.median(rates):.0f} ({min(rates):.0f} … {max(rates):.0f})")
            cells.append(
                ", ".join(f"{statistics.median(row[key] for row in same):.1f}" for key in ("p50_ms", "p99_ms"))
            )
        failed = sum(row["failed"] for row in own)
        kinds = ", ".join(sorted({kind for row in own for kind in row["failures"]}))
        ready, idle, used = (
            statistics.median(row[key] for row in own) for key in ("ready_seconds", "idle_mib", "loaded_mib")
        )
        end = f"{failed} {kinds}".strip(), f"{ready:.1f}", f"{idle:.0f}, {used:.0f}"
        print(f"| {name} | " + " | ".join([*cells, *end]) + " |", flush=True)


if __name__ == "__main__":
    main()
