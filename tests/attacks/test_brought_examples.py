"""Files of examples: one that takes memory out of proportion, one that ends its reader, and `kill -9` in the middle."""

import asyncio
import contextlib
import io
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from forked import started
from patience import PATIENCE
from ports import free_port
from pyarrow import parquet
from server_process import serving

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.spool import FileTooLarge
from breadcrumbs.serving.learning.example_files import ROWS
from breadcrumbs.serving.learning.intake import Intake
from breadcrumbs.serving.learning.portable import ExamplesError

SWELLS = 2**24
"""Bytes of a text that is once in a file, and in every row of it."""
MODEST = 2**28
"""Bytes that a server may grow by."""


def filled(client: httpx.Client, count: int) -> None:
    """Label some features."""
    labels = [{"feature": [place, 0.5, 0, 0], "class": f"class {place % 10}"} for place in range(count)]
    client.post("/v1/labels", json={"labels": labels}).raise_for_status()


def exported(client: httpx.Client, kind: str = "parquet") -> bytes:
    """All examples as a file."""
    return client.get("/v1/examples", params={"format": kind}).raise_for_status().content


def swollen(data: bytes, rows: int) -> bytes:
    """A Parquet file of which a dictionary has one large text, and every row names it."""
    row = parquet.read_table(io.BytesIO(data)).slice(0, 1)
    table = pa.concat_tables([row] * rows).combine_chunks()
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * SWELLS]))
    made = io.BytesIO()
    table = table.set_column(table.schema.get_field_index("by"), "by", texts)
    parquet.write_table(table, made, compression="zstd", store_schema=False, write_statistics=False)
    return made.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_small_file_that_swells_takes_no_memory_of_the_server(tiny_bundle: Bundle, tmp_path: Path, kind: str) -> None:
    """It is refused by the process that reads it, and the server answers on."""
    with serving(tiny_bundle, tmp_path) as server:
        filled(server.client, 1)
        data = (
            swollen(exported(server.client), 160)
            if kind == "parquet"
            else b'{"feature":[%s0]}\n' % (b"0," * 4_000_000) * 8
        )
        before = server.forget_peak()
        answer = server.client.post("/v1/examples", content=data)
        grown = server.peak() - before
        kept = server.client.get("/v1/examples").json()["examples"]

    assert answer.status_code in {413, 422}, answer.text
    assert answer.json()["error"]["type"] in {"too_large", "format"}
    assert grown < MODEST
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("program", "error", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", ExamplesError, "its process ended with status -11"),
        ("print('no JSON')", ExamplesError, "it printed what is no JSON"),
        ("import time; time.sleep(600)", ExamplesError, "it took longer than 3 s"),
        ("", ExamplesError, "its process ended with status 0"),
        ('print(\'{"event": "refused", "type": "FileTooLarge", "message": "m"}\')', FileTooLarge, "^m$"),
        ('print(\'{"event": "refused", "type": "SystemExit", "message": "m"}\')', ExamplesError, "within the limits"),
    ],
)
def test_whatever_becomes_of_the_reader_is_an_error(
    tmp_path: Path, program: str, error: type[BreadcrumbsError], words: str
) -> None:
    """The reader is a library that a file may crash or keep busy."""
    seconds = 3 if "sleep" in program else PATIENCE
    check = Intake(1000, (sys.executable, "-c", program), seconds).check(tmp_path / "a", tmp_path / "b")

    with pytest.raises(error, match=words):
        asyncio.run(check)


@pytest.mark.parametrize("limit", [10, 1000])
def test_examples_that_take_more_than_the_limit_are_refused(tiny_bundle: Bundle, tmp_path: Path, limit: int) -> None:
    """Compressed, they would fit."""
    with serving(tiny_bundle, tmp_path) as server:
        filled(server.client, 100)
        (tmp_path / "examples").write_bytes(exported(server.client))

    with pytest.raises(FileTooLarge, match=f"more than {limit} bytes, which is the limit"):
        asyncio.run(Intake(limit).check(tmp_path / "examples", tmp_path / "checked"))


@pytest.mark.parametrize(("when", "count"), [("before", 1), ("after", 2), ("before", 3)])
def test_a_file_whose_reading_was_cut_short_is_completed_by_sending_it_again(
    tiny_bundle: Bundle, tmp_path: Path, when: str, count: int
) -> None:
    """Killed in the middle: what is there is sound, and each example is there once at the end."""
    rows, source = 2 * ROWS + 100, tmp_path / "source"
    source.mkdir()
    with serving(tiny_bundle, source) as server:
        filled(server.client, rows)
        data = exported(server.client)
    port, store = free_port(), tmp_path / "store"
    line = (str(tiny_bundle.folder), str(store), str(port), when, "examples/.*", str(count))
    with (
        started(*line, code="import crashing_server; crashing_server.main()") as program,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/readyz").is_success:
                    break
        with pytest.raises(httpx.TransportError):
            client.post("/v1/examples", content=data)
        assert program.wait() == -signal.SIGKILL
    with serving(tiny_bundle, tmp_path) as server:
        there = listed(server.client)
        brought = server.client.post("/v1/examples", content=data).raise_for_status().json()
        after = listed(server.client)

    assert len(there) == min(rows, ROWS * (count - (when == "before")))
    assert (brought["new"], brought["same"]) == (rows - len(there), len(there))
    assert len(after) == len({one["id"] for one in after}) == rows


def listed(client: httpx.Client) -> list[dict[str, Any]]:
    """All examples, over all pages."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get("/v1/examples", params={"limit": 1000} | ({} if after is None else {"after": after})).json()
        found += page["examples"]
        after = page["next"]
        if after is None:
            return found
