"""What a user does first with a running image: a predict, metrics, and, where refits are inside, a refit and its swap.

    python3 probe.py URL [--refit]

Only the standard library: it runs on a machine that has nothing of ours.
"""

import json
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from typing import Any


def png(side: int = 28) -> bytes:
    """A grey gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(9 * x % 256 for x in range(side)) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def ask(url: str, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
    """Send a request; the status, and the JSON that came back."""
    request = urllib.request.Request(url + path, body, {"content-type": kind}, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def main(url: str, refits: bool) -> None:
    """Predict, and refit or be refused."""
    status, answer = ask(url, "POST", "/v1/predict", png(), "image/png")
    assert status == 200, answer
    assert len(answer["predictions"][0]["classes"]) == 5, answer
    assert ask(url, "GET", "/v2/health/ready") == (200, {"ready": True})
    status, job = ask(url, "POST", "/v1/refit", json.dumps({"spec": {"activate": "always"}}).encode())
    if not refits:
        assert status == 403, job
        assert "off" in job["error"]["message"], job
        return
    assert status == 202, job
    for _ in range(300):
        _, job = ask(url, "GET", f"/v1/refit/{job['id']}")
        if job["state"] not in {"queued", "running"}:
            break
        time.sleep(1)
    assert job["state"] == "succeeded", job
    _, answer = ask(url, "POST", "/v1/predict", png(), "image/png")
    assert answer["head"]["version"] == 2, answer


main(sys.argv[1], "--refit" in sys.argv)
