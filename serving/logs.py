"""How a server logs: one format for all its processes, their libraries and Python's warnings.

Text is for people, JSON for programs. A record is one line; in text, a traceback follows in indented lines. Text from
outside is escaped, so it can neither begin a line nor move a terminal's cursor. It knows nothing of what is logged.
"""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal

from breadcrumbs.models.printable import escaped

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]
Requests = Literal["all", "no-probes", "none"]
"""Which requests are logged."""
ACCESS = "breadcrumbs.access"
"""The logger of requests; the arguments of its records are a mapping of fields."""
LOG = logging.getLogger("breadcrumbs.process")

_BARE = re.compile(r"[!#-<>-~]+")
"""A value that needs no quotes: ASCII without spaces, quotes and equals signs."""
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
"""In ASCII, so that terminal control characters and lone surrogates are escaped. pydantic's encoder is faster, but
leaves them."""


def configure(form: Format, level: Level = "info") -> None:
    """Log to standard error in one format: records, warnings, and uncaught errors."""
    # Our formats do not show these, so they are not collected: see "Optimization" in Python's Logging HOWTO.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - that page names it
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    for module, hook in ((threading, "excepthook"), (sys, "unraisablehook")):
        setattr(module, hook, lambda told: _uncaught(told.exc_type, told.exc_value, told.exc_traceback))


def end(sentence: str, error: BaseException | None = None) -> None:
    """Print the error that ends a command: as a log line if the log is JSON, else as a sentence.

    Args:
        sentence: what to print.
        error: its traceback is printed, too.
    """
    forms = {type(handler.formatter) for handler in logging.root.handlers}
    if Json in forms:
        LOG.error("%s", sentence, exc_info=error)
        return
    lines = [] if error is None else "".join(traceback.format_exception(error)).splitlines()
    if Text in forms:
        lines, sentence = [_continued(one) for one in lines], escaped(sentence)
    print(*lines, f"breadcrumbs: {sentence}", sep="\n", file=sys.stderr, flush=True)  # noqa: T201


class Text(logging.Formatter):
    """Time with its zone, level, logger, message; for a request, `name=value` for each field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line, and indented ones of a traceback."""
        fields = _fields(record)
        message = _pairs(fields) if fields else escaped(_message(record))
        line = f"{_time(record.created)} {record.levelname} {record.name} {message}"
        if record.exc_info:
            line = "\n".join((line, *map(_continued, self.formatException(record.exc_info).splitlines())))
        return line


class Json(logging.Formatter):
    """`time`, `level`, `logger` and `message`; for a request its fields, for an error its `traceback`.

    Python-json-logger would need as much code for these times and this escaping.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one object in one line."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _json(line)


def _message(record: logging.LogRecord) -> str:
    return record.getMessage().strip()  # Python's warnings end in a newline


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return record.args if record.name == ACCESS and isinstance(record.args, Mapping) else {}


def _pairs(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(str(value))}" for name, value in fields.items())


def _value(text: str) -> str:
    return text if _BARE.fullmatch(text) else _json(text)


def _json(value: object) -> str:
    return _encode(value).replace("\x7f", "\\u007f")  # a control character that JSON allows


def _continued(line: str) -> str:
    return f"    {escaped(line)}"


def _time(seconds: float) -> str:
    """ISO 8601, in the machine's zone."""
    before, zone = _second(int(seconds))
    return f"{before}.{int(seconds % 1 * 1000):03d}{zone}"


@lru_cache(maxsize=1)
def _second(second: int) -> tuple[str, str]:
    text = datetime.fromtimestamp(second, UTC).astimezone().isoformat()
    return text[:19], text[19:]


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, SystemExit):
        LOG.critical("%s, which nobody caught", kind.__name__, exc_info=error and (kind, error, trace))
