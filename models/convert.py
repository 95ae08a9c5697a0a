"""A snapshot in any of the formats → safetensors, by a process of its own that has a memory limit.

    python -m models.convert SOURCE TARGET LIMIT GIVEN

The server starts it for what strangers upload, since a file may lie about what reading it takes, and pyarrow believes
it. It prints one JSON object: `converted` with what was changed, or `refused` with the error's type and message.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from models import snapshot as snapshots
from models.door import Opened, open_snapshot
from models.errors import BreadcrumbsError
from models.parts import Given

MEMORY = 2 * 2**30
"""Bytes of data that the process may have; arrays that are mapped from files do not count."""


def convert(source: Path, target: Path, given: Given, limit: int) -> Opened:
    """Write the snapshot in `source` to `target` as safetensors; raises as `open_snapshot` does."""
    opened = open_snapshot(source, given, limit)
    snapshots.save(target, opened.snapshot)
    return opened


def main(source: str, target: str, limit: str, given: str) -> None:
    """Convert within the memory limit and tell what came of it."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, most))
    words: dict[str, Any] = json.loads(given)
    said = Given(words.get("backbone"), words.get("epoch"), tuple(words["classes"]) if words.get("classes") else None)
    try:
        opened = convert(Path(source), Path(target), said, int(limit))
    except BreadcrumbsError as error:
        told: dict[str, Any] = {"event": "refused", "type": type(error).__name__, "message": str(error)[:2000]}
    except MemoryError:
        message = f"{Path(source).name}: reading it takes more than {MEMORY} bytes of memory, which is the limit"
        told = {"event": "refused", "type": "FileTooLarge", "message": message}
    else:
        told = {"event": "converted", "changes": opened.changes}
    print(json.dumps(told))  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    main(*sys.argv[1:])
