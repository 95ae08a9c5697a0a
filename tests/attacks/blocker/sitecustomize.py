"""A socket blocker: Python reads this file first, in the server and in its children.

Every attempt to find a host or to connect to one is written down and refused. uvloop, whose sockets Python does not
see, is not found; then uvicorn takes asyncio's loop.
"""

import os
import sys
from typing import Any

OUTWARD = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}
LOG = os.open(os.environ["BLOCKER_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Write down and refuse what leads outward; sockets of this machine's files do not."""
    if event not in OUTWARD or isinstance(arguments[-1], (str, bytes)):
        return
    if event == "socket.getaddrinfo" and arguments[0] == "127.0.0.1":  # the address to listen on: nobody is asked
        return
    os.write(LOG, f"{event} {arguments[1:]!r}\n".encode())
    raise PermissionError(f"{event}: the socket blocker is on")


sys.modules["uvloop"] = None  # type: ignore[assignment] - which says: there is none
sys.addaudithook(refuse)
os.write(LOG, b"blocking\n")
