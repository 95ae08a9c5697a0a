"""What a process does that reads a file which is not trusted: within a limit of memory, and it prints what came of it.

A file may lie about what reading it takes, and the library that reads it may believe it, or end the process. What it
prints is one JSON object: that of its work, or `refused` with the error's type and message. It knows nothing of what
is read.
"""

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.spool import FileTooLarge

MEMORY = 2 * 2**30
"""Bytes of data that the process may allocate; mapped files do not count."""


def report(work: Callable[[], dict[str, Any]], source: Path) -> None:
    """Do the work within the limit, and print what it returns, or why it could not be done.

    Args:
        work: reads the file.
        source: the file.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    least = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (least, most))
    try:
        told = work()
    except BreadcrumbsError as error:
        told = {"event": "refused", "type": type(error).__name__, "message": str(error)[:2000]}
    except OSError as error:
        told = {"event": "refused", "type": "OSError", "message": f"{error.filename or source}: {error.strerror}"}
    except MemoryError:
        message = f"{source.name}: reading it takes more than {MEMORY} bytes of memory, which is the limit"
        told = {"event": "refused", "type": FileTooLarge.__name__, "message": message}
    print(json.dumps(told))  # noqa: T201 - the parent reads it
