"""A client of a Ray cluster: one that is there, or one that is started here. It knows nothing of what runs on it."""

import contextlib
import logging
import socket
from collections.abc import Iterator

import ray
from ray import serve
from ray._common.usage import usage_lib

from breadcrumbs.models.errors import BreadcrumbsError

LOG = logging.getLogger("breadcrumbs.cluster")
REACH = 5.0
"""Seconds that the head of a cluster may take to accept a connection."""


class ClusterError(BreadcrumbsError):
    """A Ray cluster that cannot be used, or an application that does not run on it."""


@contextlib.contextmanager
def connected(address: str | None, start: bool = False) -> Iterator[bool]:
    """Be a client of a Ray cluster; yields whether it was started here, for as long as this lasts.

    Args:
        address: of the cluster; none: that of this machine.
        start: start one where this machine has none.

    Raises:
        ClusterError: there is none.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    usage_lib.set_usage_stats_enabled_via_env_var(False)  # nothing here calls home
    own = False
    _reach(address)
    try:
        ray.init(address or "auto", logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address or not start:
            where = f"at {address}" if address else "on this machine"
            raise ClusterError(f"there is no Ray cluster {where}: {last_line(error)}") from error
        LOG.info("there is no Ray cluster on this machine: starting one, which lives as long as this command")
        ray.init("local", logging_level=logging.ERROR, include_dashboard=False)
        own = True
    try:
        yield own
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the Ray cluster was lost: {last_line(error)}") from error
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            if own:
                serve.shutdown()  # type: ignore[no-untyped-call]  # Ray left its type out
            ray.shutdown()


def _reach(address: str | None) -> None:
    """Refuse an address where nobody listens at once; Ray would try for minutes."""
    if address is None:
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ClusterError(f"address {address!r:.80}: expected HOST:PORT of a Ray cluster's head, as 10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except OSError as error:
        raise ClusterError(f"there is no Ray cluster at {address}: {error.strerror or error}") from error


def last_line(error: object) -> str:
    """Return the last words of a message of many lines: there Ray says what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
