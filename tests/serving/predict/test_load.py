"""The benchmark's load generator sees what is wrong with an answer: a benchmark that cannot fail proves nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "serving"))

from load import Answer, Row, parse, verdict  # type: ignore[import-not-found]
from wire import FORMS  # type: ignore[import-not-found]

BODY = b'{"a": 1}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX: y\r\n\r\n" + BODY
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"
    + BODY[:3]
    + b"\r\n5\r\n"
    + BODY[3:]
    + b"\r\n0\r\n\r\n"
)
EXPECTED = {"1": np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)}


@pytest.mark.parametrize("response", [WHOLE, CHUNKED])
def test_a_response_is_read_when_its_last_byte_is_there(response: bytes) -> None:
    """However it is cut; before that there is none."""
    assert parse(response) == Answer(200, BODY, closes=False)
    for end in range(len(response)):
        assert parse(response[:end]) is None


@pytest.mark.parametrize("response", [b"SSH-2.0-server\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"])
def test_what_is_no_response_is_an_error(response: bytes) -> None:
    """Another protocol, or no length."""
    with pytest.raises(ValueError, match="HTTP response"):
        parse(response)


def answer(*classes: tuple[int, float], version: int = 1) -> bytes:
    """The body of a prediction."""
    ranked = [{"class": str(index), "index": index, "probability": p} for index, p in classes]
    return json.dumps({"head": {"version": version}, "predictions": [{"classes": ranked}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "photo", "expected"),
    [
        (200, answer((0, 0.7), (1, 0.2)), 0, "right"),
        (200, answer((0, 0.7005), (1, 0.2)), 0, "right"),
        (200, answer((0, 0.7), (1, 0.2)), 1, "wrong"),  # the answer to another photo
        (200, answer((1, 0.7), (0, 0.2)), 0, "wrong"),  # the classes are mixed up
        (200, answer((0, 0.6), (1, 0.2)), 0, "wrong"),
        (200, answer((1, 0.2), (0, 0.7)), 0, "wrong"),  # not in order
        (200, answer((0, 0.7), (0, 0.7)), 0, "wrong"),
        (200, answer(), 0, "wrong"),
        (200, answer((0, 0.7), version=2), 0, "unreadable"),  # a head that nobody expects
        (200, b"{}", 0, "unreadable"),
        (200, b"\xff", 0, "unreadable"),
        (503, answer((0, 0.7)), 0, "status 503"),
    ],
)
def test_a_verdict_tells_right_from_wrong(status: int, body: bytes, photo: int, expected: str) -> None:
    """An answer is right if it has the top classes of its photo, in order, with their probabilities."""
    row = Row(1.0, 0.1, photo, Answer(status, body, closes=False))

    assert verdict(row, FORMS["ours"], EXPECTED) == expected
    assert verdict(Row(1.0, 0.1, photo, "closed"), FORMS["ours"], EXPECTED) == "closed"
