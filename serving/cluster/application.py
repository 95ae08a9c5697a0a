"""The server on many machines: one app in replicas on a Ray cluster, behind Ray's proxies, on one store.

    up(settings, cluster)     put it there, or change what is there, without a pause
    status(address, name)     what is there
    down(address, name)       take it away

Ray places replicas, watches them, and starts them again where they die; the store is all that they have in common. What
runs in a replica is `serving.cluster.replica`'s, what stands before it `serving.cluster.proxy`'s. This knows nothing of
HTTP or of models.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig, ProxyLocation
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ProxyStatus, ServeStatus

from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.serving.app import GRACE, REFIT, keys_of
from breadcrumbs.serving.cluster import proxy, refits
from breadcrumbs.serving.cluster.connection import ClusterError, last_line
from breadcrumbs.serving.cluster.refit_task import Resources
from breadcrumbs.serving.cluster.replica import Replica
from breadcrumbs.serving.cluster.settings import ClusterSettings
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import live_head
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.store import Store

LOG = logging.getLogger("breadcrumbs.cluster")
POLL = 0.5
"""Seconds between two polls of Ray's state."""
CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Ray's name for what its proxies import; it goes with Ray's controller, whose children they are."""
READY_CHECK = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"
"""Ray's name for the seconds that a proxy has to get ready. Its own default of 5 is too few on a busy machine."""


def check(settings: Settings, cluster: ClusterSettings) -> Settings:
    """Find what would keep every replica from starting; return the settings of each.

    An empty store gets the bundle's head here, once, and not from each replica that starts.

    Raises:
        ClusterError: the settings contradict each other.
        KeysError: other machines are served without keys.
        BundleError, StoreError: bundle or store cannot be used from here.
    """
    try:
        each = cluster.of_replica(settings)
    except ValueError as error:
        raise ClusterError(str(error)) from error
    keys_of(settings)
    store = Store.open(settings.store, settings.max_store_bytes)
    bundle = read_bundle(settings.bundle).of("int8" if settings.precision == "int8" else "full")
    asyncio.run(live_head.first(store, bundle, Log(store)))
    return each


def up(settings: Settings, cluster: ClusterSettings, refit_command: Sequence[str] = REFIT) -> None:
    """Put the app on the cluster that this process is connected to, and return when it answers.

    Args:
        settings: as for one server; its refits run on the cluster where `refit` says here.
        cluster: how many replicas, and what each may take.
        refit_command: the program that a refit runs, without its arguments.

    Raises:
        ClusterError: Ray cannot run it; its last words say why.
        BreadcrumbsError: as `check`.
    """
    each = check(settings, cluster)
    before = serve.status()
    if before.proxies and cluster.name not in before.applications:
        LOG.warning(
            "Ray Serve runs here already: host, port and what our proxies do for slow clients and lost replicas are "
            "as it was started, not as this command says"
        )
    callback = f"{proxy.__name__}.{proxy.middlewares.__name__}"
    environment = {CALLBACK: callback, READY_CHECK: "60"} | {
        f"BREADCRUMBS_{name.upper()}": str(getattr(settings, name))
        for name in ("receipt", "receipt_idle", "receipt_rate")
    }
    try:
        _start({"host": settings.host, "port": settings.port}, environment)
        target = serve.RunTarget(application(each, cluster), cluster.name, "/")
        serve.run_many([target], wait_for_applications_running=False)
    except (RuntimeError, ValueError, ValidationError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Ray Serve refuses: {last_line(error)}") from error
    _wait(cluster.name)
    if settings.refit == "here":
        resources = Resources(cluster.refit_cpus, cluster.refit_gpus, settings.refit_memory, cluster.refit_retries)
        refits.place(cluster.name, each, refit_command, resources)
    else:
        refits.remove(cluster.name)


def _start(http: dict[str, Any], environment: dict[str, str]) -> None:
    """Start Ray Serve, or connect to it where it runs.

    Ray's controller replaces a proxy that is not ready in time, and the start that waited for it fails, though nothing
    is lost: the next one connects to that controller. `_wait` waits for a proxy.
    """
    options = {"runtime_env": {"env_vars": environment}}
    try:
        serve.start(proxy_location=ProxyLocation.EveryNode, http_options=http, controller_options=options)
    except (ray.exceptions.ActorDiedError, TimeoutError) as error:
        LOG.warning("a proxy was not ready in time, Ray starts another: %s", last_line(error))
        serve.start()


def application(each: Settings, cluster: ClusterSettings) -> serve.Application:
    """Return what Ray is to run: replicas with these settings."""
    replicas = serve.deployment(
        name="replicas",
        max_ongoing_requests=cluster.ongoing(each),
        max_queued_requests=each.queue,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        autoscaling_config=AutoscalingConfig(
            min_replicas=cluster.min_replicas,
            max_replicas=cluster.max_replicas,
            target_ongoing_requests=cluster.target,
            upscale_delay_s=cluster.upscale_delay,
            downscale_delay_s=cluster.downscale_delay,
        ),
        ray_actor_options={"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
        health_check_period_s=5,
        health_check_timeout_s=15,
        graceful_shutdown_timeout_s=GRACE,
        max_constructor_retry_count=3,
    )(Replica)
    return replicas.bind(each.model_dump_json())


def _wait(name: str) -> None:
    """Return when an application runs and a proxy answers."""
    told = ""
    while True:
        whole = serve.status()
        one = whole.applications.get(name)
        if one is None or one.status in {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.DELETING}:
            raise ClusterError(f"the replicas do not start: {'they were taken away' if one is None else _why(one)}")
        answers = not whole.proxies or ProxyStatus.HEALTHY in whole.proxies.values()
        if one.status == ApplicationStatus.RUNNING and answers:
            return
        now = "; ".join(f"{part}: {states(part, one)}" for part in one.deployments)
        if now != told:
            LOG.info("%s", now or "waiting for Ray")
            told = now
        time.sleep(POLL)


def state(name: str) -> ApplicationStatusOverview | None:
    """Return what Ray says about an application; none: there is no such one."""
    return serve.status().applications.get(name)


def states(part: str, one: ApplicationStatusOverview) -> str:
    """Say in words how many replicas of a part are in which state."""
    counts = one.deployments[part].replica_states
    return ", ".join(f"{count} {kind.lower()}" for kind, count in sorted(counts.items())) or "none"


def watch(name: str) -> None:
    """Return when an application is gone."""
    while state(name) is not None:
        time.sleep(POLL)


def status(name: str) -> tuple[ServeStatus, ApplicationStatusOverview]:
    """Return what runs on the cluster that this process is connected to, and what of it is ours.

    Raises:
        ClusterError: nothing of that name does.
    """
    whole = serve.status()
    if name not in whole.applications:
        others = ", ".join(sorted(whole.applications)) or "none"
        raise ClusterError(f"there is no application {name!r} on this cluster; there are: {others}")
    return whole, whole.applications[name]


def down(name: str) -> None:
    """Take the app away, requests in flight answered first, and Ray Serve too where nothing else runs on it.

    Raises:
        ClusterError: as `status`.
    """
    whole, _ = status(name)
    refits.remove(name)
    with contextlib.suppress(ray.exceptions.RayError):  # a cluster of `up` alone ends as soon as the app is gone
        serve.delete(name)
        if set(whole.applications) == {name}:
            serve.shutdown()  # type: ignore[no-untyped-call]  # Ray left its type out


def _why(one: ApplicationStatusOverview) -> str:
    """Return the last words of what failed."""
    messages = [part.message for part in one.deployments.values() if part.message]
    return last_line(messages[0] if messages else one.message)
