"""`breadcrumbs cluster`: the server on many machines. Each command is a few lines around `serving.cluster`.

That is imported when it is needed, since Ray is an extra.
"""

import signal
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.table import Table

from breadcrumbs.serving import environment
from breadcrumbs.serving.cluster.settings import ClusterSettings
from breadcrumbs.serving.settings import Settings
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview, ServeStatus

Fields = Parameter(name="*")  # every field is a flag of its own
Address = Annotated[
    str | None, Parameter(help="Address of the Ray cluster; default: the one that this machine belongs to.")
]
Name = Annotated[str, Parameter(help="Name of the application.")]

HELP = """Run the server on many machines with Ray Serve: deploy it, show its state, remove it.

Example: `breadcrumbs cluster up --bundle /srv/bundle --store s3://lab/store --min-replicas 2`"""

cluster = App(name="cluster", help=HELP)


@cluster.command
def up(
    *,
    cluster: Annotated[ClusterSettings | None, Fields] = None,
    settings: Annotated[Settings | None, Fields] = None,
    json: Json = False,
) -> None:
    """Serve from replicas on a Ray cluster. Run it again with other flags to replace them one by one, without a pause.

    On a running Ray cluster, the command returns once the replicas answer. Where there is none, it starts one on this
    machine and runs until Ctrl-C. Bundle, store and keys must be at the same place on every node.

    Example: `breadcrumbs cluster up --bundle /srv/bundle --store s3://lab/store --min-replicas 2 --gpus 0.5`

    Args:
        cluster: How many replicas, and what each may use.
        settings: As for `serve`, for every replica.
        json: Print one JSON object once the replicas answer: name and URL.
    """
    from breadcrumbs.serving.cluster import application
    from breadcrumbs.serving.cluster.connection import connected

    chosen, each = cluster or ClusterSettings(), settings or Settings()
    environment.warn()
    application.check(each, chosen)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with connected(chosen.address, start=True) as own:
        application.up(each, chosen)
        url = f"http://{each.host}:{each.port}"
        if json:
            tell_json({"name": chosen.name, "url": url})
        else:
            print(f"{chosen.name} answers at {url}", flush=True)  # noqa: T201
        if own:
            try:
                application.watch(chosen.name)
            except KeyboardInterrupt:
                print("stopping", file=sys.stderr)  # noqa: T201


@cluster.command
def status(*, address: Address = None, name: Name = "breadcrumbs", json: Json = False) -> None:
    """Show the replicas and proxies of a cluster. Exits with status 2 unless all is well.

    Example: `breadcrumbs cluster status`

    Args:
        json: Print one JSON object.
    """
    from breadcrumbs.serving.cluster import application, refits
    from breadcrumbs.serving.cluster.connection import connected

    with connected(address):
        whole, ours = application.status(name)
        how = refits.state(name)
    well = ours.status.value == "RUNNING" and how in {None, "ready"}
    if json:
        parts = {part: {"state": one.status.value, **one.replica_states} for part, one in ours.deployments.items()}
        proxies = {node: proxy.value for node, proxy in whole.proxies.items()}
        tell_json({"name": name, "well": well, "parts": parts, "refits": how, "proxies": proxies})
    else:
        _show(whole, ours, how)
        print(f"{name}: {'all is well' if well else 'not all is well'}")  # noqa: T201
    if not well:
        sys.exit(2)


@cluster.command
def down(*, address: Address = None, name: Name = "breadcrumbs", json: Json = False) -> None:
    """Remove the replicas, after the requests in flight are answered. The Ray cluster and the store stay.

    Example: `breadcrumbs cluster down`

    Args:
        json: Print one JSON object.
    """
    from breadcrumbs.serving.cluster import application
    from breadcrumbs.serving.cluster.connection import connected

    with connected(address):
        application.down(name)
    if json:
        tell_json({"name": name, "down": True})
    else:
        print(f"{name} is down")  # noqa: T201


def _show(whole: "ServeStatus", ours: "ApplicationStatusOverview", refits: str | None) -> None:
    table = Table("part", "state", "replicas", "message")
    for part, one in ours.deployments.items():
        counts = ", ".join(f"{count} {kind.lower()}" for kind, count in sorted(one.replica_states.items()))
        table.add_row(part, one.status.value.lower(), counts, one.message)
    if refits is not None:
        table.add_row("refits", refits, "", "")
    for node, proxy in whole.proxies.items():
        table.add_row(f"proxy on {node[:8]}", proxy.value.lower(), "", "")
    show(table)
