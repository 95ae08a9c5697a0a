"""The log of real servers: every line has the format, nobody forges one, a request's tells who asked what."""

import json
import logging
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import command, started
from patience import PATIENCE
from refits import NEVER, finish, upload
from running import Serve
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving import logs
from breadcrumbs.serving.http.access_log import PROBES
from breadcrumbs.serving.state import keys

ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    r"(?P<logger>[\w.]+) (?P<message>.*)|    .*"
)
FORGED = "2026-01-01T00:00:00.000+00:00 CRITICAL forged all is lost"
EVERY = [("text", 1), ("text", 2), ("json", 1), ("json", 2)]


def parsed(form: str, text: str) -> list[dict[str, Any]]:
    """The lines of a log, each in the format; of a request with its fields, which are texts where the log is."""
    if form == "json":
        return [json.loads(line) for line in text.splitlines()]
    found = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        if match["time"]:
            found.append(dict(match.groupdict()))
        if match["logger"] == logs.ACCESS:
            pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', match["message"])
            found[-1] |= {name: json.loads(value) if value[0] == '"' else value for name, value in pairs}
    return found


def ask(client: httpx.Client, secret: str) -> None:
    """What somebody might who wants a line of his own in the log."""
    client.headers["authorization"] = f"Bearer {secret}"
    client.get(f"/v1/nothing%0a{FORGED.replace(' ', '%20')}", headers={"user-agent": FORGED} | PARENT)
    client.get("/v1/nothing%1b%5b2J%c2%9b%e2%80%a8%7f", headers={"x-request-id": f"a {FORGED}"})
    client.post("/v1/heads/1/activate", json={"reason": f"none\n{FORGED}"})
    client.post("/v1/heads/1/activate", json={"reason": "mend\\n"}, headers={"x-request-id": "mended"})
    client.get("/v1/heads", headers={b"x-forwarded-for": b'1.2.3.4, \x9b"a b=c', "x-request-id": "behind"})
    client.get("/readyz")
    client.post("/v1/predict", content=png(picture()), headers=PNG | PARENT)


@pytest.fixture(scope="module", params=EVERY, ids=str)
def log(request: Any, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A format, and all that a server of one or of several processes wrote to standard error, from start to end."""
    form, workers = request.param
    folder = tmp_path_factory.mktemp("logged")
    secret = keys.add(folder / "keys.json", "anna", ("admin",))
    line = ["serve", "--bundle", str(tiny_bundle.folder), "--port", "0"]
    line += ["--store", str(folder / "store"), "--device", "cpu", "--workers", str(workers), "--log-format", form]
    line += ["--keys", str(folder / "keys.json"), "--trusted-proxies", "127.0.0.1", "--access-log", "no-probes"]
    told = r"processes serve on ([\d.:]+)" if workers > 1 else r"running on http://([\d.:]+)"
    with started(*line) as program:
        address = program.tells(lambda text: re.search(told, text))[1]
        with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:
            ask(client, secret)
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        return form, program.err


def test_every_line_is_one_of_the_format(log: tuple[str, str]) -> None:
    """From the first to the last, of every process and of uvicorn, with time, level and logger."""
    lines = parsed(*log)

    assert {"breadcrumbs.server", "breadcrumbs.jobs", "uvicorn.error", logs.ACCESS} <= {one["logger"] for one in lines}
    for one in lines:
        assert {"time", "level", "logger", "message"} <= set(one)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", one["time"])


def test_nobody_adds_a_line(log: tuple[str, str]) -> None:
    """By a path, a reason or a header; what would move a terminal's cursor is escaped."""
    form, text = log
    lines = parsed(form, text)

    assert not [line for line in text.split("\n") if line.startswith(FORGED)]
    assert [one for one in lines if one["logger"] == "forged"] == []
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", text)
    paths = [one["path"] for one in lines if one.get("route") == "unmatched"]
    assert paths == [f"/v1/nothing\n{FORGED}", "/v1/nothing\x1b[2J\x9b\u2028\x7f"]


def test_a_line_tells_who_asked_what(log: tuple[str, str]) -> None:
    """Client, key, trace, status and route; the client is whom a trusted proxy names, whatever it says."""
    lines = [one for one in parsed(*log) if one["logger"] == logs.ACCESS]
    (behind,) = [one for one in lines if one["request_id"] == "behind"]
    (predicted,) = [one for one in lines if one["route"] == "/v1/predict"]

    assert {one["key"] for one in lines} == {"anna"}
    assert (behind["client"], behind["route"], "trace_id" in behind) == ('\x9b"a b=c', "/v1/heads", False)
    assert (predicted["client"], predicted["trace_id"], str(predicted["status"])) == ("127.0.0.1", TRACE, "200")
    assert {"ms", "queue_ms", "decode_ms", "compute_ms", "head", "images", "batch_size"} <= set(predicted)
    assert [one["path"] for one in lines if one["request_id"] == "mended"] == ["/v1/heads/1/activate"]


def test_probes_are_left_out_alone(log: tuple[str, str]) -> None:
    """And everything else is there."""
    lines = [one for one in parsed(*log) if one["logger"] == logs.ACCESS]

    assert {one["route"] for one in lines}.isdisjoint(PROBES)
    assert len(lines) == 6


WRITES = """
import logging, sys, threading, warnings
from breadcrumbs.serving import logs
logs.configure(sys.argv[1], sys.argv[2])
logging.getLogger("breadcrumbs.one").debug("quiet")
logging.getLogger("breadcrumbs.one").info("said\\n%s", sys.argv[3])
logging.getLogger("uvicorn.error").error("loud \\x1b[2J\\ud800 %s", "caf\\u00e9\\u2028")
warnings.warn("careful\\nnow")
threading.Thread(target=lambda: 1 / 0).start()
try:
    raise ValueError(f"one\\n{sys.argv[3]}\\x1b")
except ValueError:
    logging.getLogger("breadcrumbs.two").exception("it failed")
raise KeyError(sys.argv[3])
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_whatever_a_process_says_is_in_the_format(form: str, level: str) -> None:
    """Records, warnings, tracebacks with newlines in them, errors that nobody catches; those of the level or above."""
    line = [sys.executable, "-c", WRITES, form, level, FORGED]  # the hook for what nobody catches is a fresh Python's
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
    lines = parsed(form, done.stderr)

    levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert {one["level"] for one in lines} == set(levels[levels.index(level.upper()) :])
    assert not [one for one in done.stderr.splitlines() if one.startswith(FORGED)]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr)
    whole = "".join(one["message"] for one in lines) + done.stderr
    assert all(word in whole for word in ("ZeroDivisionError", "ValueError", "KeyError", "it failed"))
    if form == "json":
        assert [FORGED in one["traceback"] for one in lines if one["message"] == "it failed"] == [True]
    if level == "info":
        assert "careful" in whole


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--bundle", "no\nwhere"), "no bundle at no"),
        (("--queue", "0"), "--queue: Input should be greater than"),
        (("--nope",), "Unknown option"),
    ],
)
def test_an_error_at_start_is_a_line(more: tuple[str, ...], told: str, workers: str, tmp_path: Path) -> None:
    """Whoever tells it, and whether or not the settings could be read; in text it is the sentence of every command."""
    line = ("serve", "--store", str(tmp_path), "--port", "0", *more, "--workers", workers, "--device", "cpu")
    done = {form: command(*line, "--log-format", form) for form in ("json", "text")}
    errors = [one["message"] for one in parsed("json", done["json"].stderr) if one["level"] == "ERROR"]

    assert {one.returncode for one in done.values()} == {2}
    assert any(told in message for message in errors)
    assert any(one.startswith("breadcrumbs: ") and told in one for one in done["text"].stderr.splitlines())
    for one in done["text"].stderr.splitlines():
        assert one.startswith("breadcrumbs: ") or LINE.fullmatch(one), one


def test_the_environment_asks_for_json_too(tmp_path: Path) -> None:
    """Also before the settings are read, and with the traceback of `--debug`."""
    line = ("--debug", "serve", "--store", str(tmp_path), "--queue", "x")
    done = command(*line, environment={"BREADCRUMBS_LOG_FORMAT": "json"})
    (one,) = parsed("json", done.stderr)
    plain = command(*line)
    *trace, last = plain.stderr.splitlines()

    assert last.startswith("breadcrumbs: --queue: ")
    assert trace[0] == "    Traceback (most recent call last):"
    assert all(LINE.fullmatch(line) for line in trace)
    assert one["message"].startswith("--queue: ")
    assert one["traceback"].startswith("Traceback")


@pytest.mark.parametrize(
    ("form", "told"),
    [("none", "breadcrumbs: two faults:\n  one\n  two\n"), ("text", "breadcrumbs: two faults:\\n  one\\n  two\n")],
)
def test_only_a_servers_last_sentence_is_one_line(form: str, told: str) -> None:
    """Those of other commands may list what is wrong in lines of their own."""
    code = (
        "import sys; from breadcrumbs.serving import logs; a, b = sys.argv[1:]\n"
        "a == 'none' or logs.configure(a); logs.end(b)"
    )
    line = [sys.executable, "-c", code, form, "two faults:\n  one\n  two"]

    assert subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stderr == told


def test_what_a_refit_wrote_is_one_line(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The end of the output of its process, in both formats, where it fails without a reason."""
    with caplog.at_level(logging.INFO), serve("crashes") as client:
        assert finish(client, {"snapshots": [upload(client)], **NEVER})["state"] == "failed"
    (record,) = [one for one in caplog.records if "its process failed" in one.message]

    for form, formatter in (("text", logs.Text()), ("json", logs.Json())):
        (line,) = parsed(form, formatter.format(record))
        assert "Traceback: secret words" in line["message"]
        assert (line["level"], line["logger"]) == ("ERROR", "breadcrumbs.refit")


def test_no_two_threads_share_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Each record is written whole."""
    handler = logging.StreamHandler()
    handler.setFormatter(logs.Json())
    log = logging.Logger("breadcrumbs.many")  # noqa: LOG001 - of this test alone
    log.addHandler(handler)
    threads = [threading.Thread(target=lambda: [log.warning("x" * 5000) for _ in range(20)]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(parsed("json", capfd.readouterr().err)) == 160
