"""Uploads in other formats: converted by a child with limits, stored as safetensors, and told."""

import asyncio
import io
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from patience import PATIENCE
from pyarrow import parquet
from running import Serve
from tiny import CLASSES, tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.models.spool import FileTooLarge
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.state.conversion import Converter

OWN = tiny_snapshot("b" * 64)
SAYS = {"backbone": "b" * 64, "epoch": 2, "classes": CLASSES, "created": "2026-01-01"}
NAMES = [CLASSES[label] for label in OWN.labels]


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def in_parquet() -> bytes:
    out = io.BytesIO()
    columns = {"feature": OWN.features.tolist(), "label": NAMES}
    parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def in_arrow() -> bytes:
    out = io.BytesIO()
    content = pa.table({"feature": pa.array(OWN.features.tolist(), pa.list_(pa.float32(), 4)), "label": NAMES})
    with pa.ipc.new_file(out, content.schema) as writer:
        writer.write_table(content)
    return out.getvalue()


PARAMS: dict[str, Any] = {"backbone": "b" * 64, "epoch": 2, "classes": list(CLASSES)}


def test_an_npz_becomes_the_same_object_as_its_safetensors(client: httpx.Client, tmp_path: Path) -> None:
    """What is stored is safetensors under its own digest, whichever form comes; the answer says what was changed."""
    converted = client.put("/v1/snapshots", content=npz(features=OWN.features.astype(">f4"), labels=NAMES, **SAYS))
    again = client.put("/v1/snapshots", content=snapshots.to_bytes(OWN))
    listed = client.get(converted.headers["location"]).json()

    assert (converted.status_code, again.status_code) == (201, 200)
    assert converted.json()["sha256"] == again.json()["sha256"]
    assert converted.headers["location"] == again.headers["location"]
    assert converted.json()["converted"] == [
        "npz to safetensors", "labels: names to indices", "features: big-endian float32 to float32",
    ]  # fmt: skip
    assert again.json()["converted"] == []
    assert listed == converted.json()
    assert listed["classes"] == dict.fromkeys(CLASSES, 4)


@pytest.mark.parametrize("data", [in_parquet(), in_arrow(), npz(features=OWN.features, labels=OWN.labels)])
def test_what_the_file_leaves_out_comes_in_the_query(client: httpx.Client, data: bytes) -> None:
    """Backbone, epoch and classes; without them the message says which is missing."""
    refused = client.put("/v1/snapshots", content=data)
    taken = client.put("/v1/snapshots", content=data, params=PARAMS)

    assert refused.status_code == 422
    assert "the file does not say 'backbone'" in refused.json()["error"]["message"]
    assert taken.status_code in {200, 201}, taken.text
    assert (taken.json()["epoch"], taken.json()["backbone"]) == (2, "b" * 64)
    assert list(taken.json()["classes"]) == list(CLASSES)
    assert "epoch: as given" in taken.json()["converted"]


@pytest.mark.parametrize(
    ("data", "status", "kind", "words"),
    [
        (npz(features=OWN.features, labels=OWN.labels)[:-5], 422, "format", "damaged zip archive"),
        (npz(features=np.zeros((9_000, 4)), labels=[0] * 9_000), 413, "too_large", "inflated; the limit is 50000"),
        (npz(features=OWN.features[:, :3], labels=OWN.labels), 422, "format", "expected features of 4 dimensions"),
        (
            npz(features=OWN.features * np.nan, labels=OWN.labels),
            422,
            "format",
            "12 of 12 rows have values that are not",
        ),
        (npz(features=OWN.features.astype(object), labels=OWN.labels), 422, "format", "pickles, which are never read"),
        (b"PAR1junk", 422, "format", "damaged Parquet file"),
        (b"ARROW1\0\0junk", 422, "format", "damaged Arrow file"),
    ],
)
def test_a_defect_found_by_the_child_is_told(
    client: httpx.Client, data: bytes, status: int, kind: str, words: str
) -> None:
    """The child's refusal reaches the client with its own status and words, and nothing is kept."""
    before = client.get("/v1/snapshots").json()

    answer = client.put("/v1/snapshots", content=data, params=PARAMS)

    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    assert words in answer.json()["error"]["message"]
    assert client.get("/v1/snapshots").json() == before


def test_a_refit_may_bring_other_formats(serve: Serve) -> None:
    """Files of a multipart refit that say everything themselves."""
    files = [("snapshot", npz(features=OWN.features, labels=NAMES, **SAYS))]
    with serve() as server:
        started = server.post("/v1/refit", files=files)
        kept = server.get("/v1/snapshots").json()["snapshots"]

    assert started.status_code == 202
    assert started.json()["request"]["snapshots"] == [kept[0]["sha256"]]
    assert kept[0]["converted"] == ["npz to safetensors", "labels: names to indices"]


def test_the_client_sends_what_is_given(serve: Serve, tmp_path: Path) -> None:
    """`put_snapshot` takes what the file leaves out, class names with any letters in them."""
    (tmp_path / "s.npz").write_bytes(npz(features=OWN.features, labels=OWN.labels))
    with serve() as server, Client(str(server.base_url)) as client:
        found = client.put_snapshot(tmp_path / "s.npz", Given("b" * 64, 3, ("a&b", "é =", "c#")))

    assert (found.epoch, list(found.classes)) == (3, ["a&b", "é =", "c#"])


def convert(program: str, seconds: float = 20.0) -> tuple[str, ...]:
    """Run a converter whose child is a little program."""
    converter = Converter(1000, (sys.executable, "-c", program), seconds)
    return asyncio.run(converter.convert(Path("a"), Path("b"), Given()))


@pytest.mark.parametrize(
    ("program", "error", "words"),
    [
        ("import sys; sys.exit(3)", SnapshotError, "its process ended with status 3"),
        ('print(\'{"event": "converted", "changes": []}\'); import sys; sys.exit(1)', SnapshotError, "status 1"),
        ("import os; os.kill(os.getpid(), 9)", SnapshotError, "status -9"),
        ("print('no json')", SnapshotError, "printed what is no JSON"),
        ("import time; time.sleep(60)", SnapshotError, "it took longer than 0.5 s"),
        ('print(\'{"event": "refused", "type": "FileTooLarge", "message": "m"}\')', FileTooLarge, "^m$"),
        ('print(\'{"event": "refused", "type": "ExtraMissing", "message": "m"}\')', ExtraMissing, "^m$"),
        ('print(\'{"event": "refused", "type": "SystemExit", "message": "m"}\')', SnapshotError, "within the limits"),
    ],
)
def test_a_child_that_breaks_is_a_refusal(program: str, error: type[Exception], words: str) -> None:
    """Killed, silent, slow or babbling: a typed error, and never a converted snapshot."""
    with pytest.raises(error, match=words):
        convert(program, 0.5 if "sleep" in program else PATIENCE)


def test_the_child_has_a_memory_limit() -> None:
    """More data than the limit is an error in the child, which becomes a refusal."""
    program = (
        "import sys, breadcrumbs.models.snapshots.convert as c\n"
        "c.open_snapshot = lambda *_: bytearray(c.untrusted.MEMORY + 1)\n"
        "c.main(*sys.argv[1:])"
    )

    with pytest.raises(FileTooLarge, match="takes more than 2147483648 bytes of memory, which is the limit"):
        convert(program)
