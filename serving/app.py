"""The server: creates its parts, connects them, and shuts them down. What each part does is in its own module."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import time
from functools import partial
from pathlib import Path
from socket import socket
from typing import cast

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Mount, Route

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.images import decoding
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.machine import cores, memory
from breadcrumbs.serving import environment, logs
from breadcrumbs.serving.fast_path import FastPath
from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.access_control import AccessControl
from breadcrumbs.serving.http.access_log import AccessLog
from breadcrumbs.serving.http.arrival import pace_of
from breadcrumbs.serving.http.compressed import Compressed
from breadcrumbs.serving.http.forwarded import Forwarded
from breadcrumbs.serving.http.frames import Unframed
from breadcrumbs.serving.http.hosts import Hosts
from breadcrumbs.serving.http.listening import listen, url
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.origins import ANY, open_to
from breadcrumbs.serving.http.protocol import PatientProtocol
from breadcrumbs.serving.http.route_names import route_names
from breadcrumbs.serving.http.routes import (
    answers,
    classes,
    console,
    examples,
    heads,
    open_inference,
    predict,
    priors,
    refit,
    snapshots,
    system,
)
from breadcrumbs.serving.http.service import Service, groups_of
from breadcrumbs.serving.http.shares import Held, Turnstile
from breadcrumbs.serving.http.traces import Traces
from breadcrumbs.serving.learning import remembering
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.removal import Removal
from breadcrumbs.serving.pairs import open_pairing
from breadcrumbs.serving.precision import chosen
from breadcrumbs.serving.predict.batcher import Batcher
from breadcrumbs.serving.predict.decoder import Decoder
from breadcrumbs.serving.predict.engine import Engine, Scores
from breadcrumbs.serving.predict.in_time import in_time
from breadcrumbs.serving.predict.inference import Inference, Item
from breadcrumbs.serving.predict.pairing import Pairing
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.processes.scratch import locked, sweep
from breadcrumbs.serving.refits.jobs import Jobs
from breadcrumbs.serving.refits.pinned import Pinned
from breadcrumbs.serving.refits.pinned import read as read_pinned
from breadcrumbs.serving.refits.schedule import Occasions, Schedule
from breadcrumbs.serving.refits.worker import Refitter
from breadcrumbs.serving.setting_names import about, both
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import live_head
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.conversion import Converter
from breadcrumbs.serving.state.heads import read as read_head
from breadcrumbs.serving.state.keys import Keys, KeysError
from breadcrumbs.serving.state.lease import Lease
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Store

LOG = logging.getLogger("breadcrumbs.server")
REFIT = (sys.executable, "-P", "-m", "breadcrumbs", "refit", "--debug")
"""The program that a refit runs; with the traceback of a bug, for this server's log."""
ROUTES = (predict, priors, answers, examples, classes, snapshots, refit, heads, open_inference, system, console)
GRACE = 30
"""Seconds that requests in flight have to finish after SIGTERM."""
LONGEST = 0.05
"""Seconds that a batch should take at most. Larger ones are no faster on a CPU, and take memory that is kept."""


def create_app(
    settings: Settings, refit_command: Sequence[str] = REFIT, run: child.Run = child.run, retries: int = 0
) -> FastAPI:
    """Return the app. It loads the models and opens the store when it starts.

    Args:
        settings: of the server.
        refit_command: the program that a refit runs, without its arguments.
        run: runs it, as a child of this process or on another machine.
        retries: how often a refit that a lost server left unfinished is started again.

    Raises:
        KeysError: the file of keys cannot be used, or other machines are served without one.
    """
    keys = keys_of(settings)
    if keys is None and ANY in settings.origins:
        LOG.warning("every web page that somebody opens near this server may do everything: origins is *, without keys")
    metrics = Metrics()
    command = (*refit_command, "--device", settings.refit_device)
    refitting = partial(Refitter, command=command, run=run, retries=retries)
    with about("otlp_endpoint"):
        traces = None if settings.otlp_endpoint is None else Traces(settings.otlp_endpoint)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if traces is not None:
                stack.push_async_callback(asyncio.to_thread, traces.close)
            app.state.service = await _open(settings, refitting, metrics, stack)
            _open_schedule(app.state.service, stack)
            yield

    app: FastAPI = FastAPIOffline(
        title="Breadcrumbs",
        description="Long-tailed image classification; its head is refitted from snapshots and swapped under load.",
        lifespan=lifespan,
        redoc_url=None,
    )
    errors.install(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    app.mount("/console", console.Pages(directory=console.FILES))
    hosts = Hosts(settings.allowed_hosts, settings.host)
    answering = Compressed(Unframed(FastPath(app, app.build_middleware_stack())))
    guarded = AccessControl(answering, keys, hosts, settings.origins, Held(settings.max_held_bytes))
    own = [one for one in app.routes if isinstance(one, Route | Mount)]  # and what includes the routers
    name_of = route_names([*own, *(route for routes in ROUTES for route in routes.router.routes)])
    counted = AccessLog(open_to(settings.origins, guarded), metrics, name_of, settings.access_log, traces)
    app.middleware_stack = Forwarded(counted, settings.root_path, settings.trusted_proxies)
    return app


def keys_of(settings: Settings) -> Keys | None:
    """Return the API keys. None means that everybody has access; that is logged unless only this machine is served.

    Raises:
        KeysError: the file cannot be used, or other machines are served without one.
    """
    if settings.keys is not None:
        with about("keys"):
            return Keys(settings.keys)
    if not is_loopback(settings.host):
        if not settings.insecure:
            raise KeysError(
                f"host {settings.host} serves other machines, and there are no keys: set {both('keys')} to a file that "
                f"`breadcrumbs keys add` makes, or {both('insecure')} where something in front authenticates"
            )
        LOG.warning("there are no keys: everyone who reaches %s:%d may do everything", settings.host, settings.port)
    return None


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _open(
    settings: Settings, refitting: Callable[..., Refitter], metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Service:
    """Create the parts in order. `stack` closes them in the opposite order."""
    await asyncio.to_thread(sweep)
    with about("bundle"):
        whole = await asyncio.to_thread(_bundle, settings.bundle)
    with about("store"):
        store = Store.open(settings.store, settings.max_store_bytes)
    for used in (whole.folder, store.folder):
        if used is not None:
            with contextlib.suppress(OSError):  # where folders cannot be locked, nobody checks for locks either
                stack.callback(os.close, locked(used, shared=True))
    log = Log(store)
    bundle, precision = await chosen(settings, whole, store, log)
    with about("store"):
        activation = await live_head.first(store, bundle, log)
        _, head = await read_head(store, activation.head)
    transform = bundle.manifest.preprocess
    size = None if transform is None else (transform.height, transform.width)

    def backbone() -> Path:
        with about("bundle", "precision"):
            return bundle.backbone_path("half" if precision == "half" else "full")

    def start_engine() -> Engine:
        engine = Engine(
            None if size is None else backbone,
            head,
            activation.head,
            size,
            settings.device,
            settings.threads,
            metrics.computed,
            settings.max_batch,
            settings.tensorrt_cache,
        )
        engine.warm_up(settings.max_batch, limit)
        return engine

    limit = None if settings.device == "tensorrt" else settings.start_timeout
    engine = await in_time(start_engine, limit, f"the models of {bundle.folder}")
    await asyncio.to_thread(decoding.load_codecs)
    metrics.device.labels(engine.device).set(1)
    budget = Budget(settings.decode_memory)
    decoder = Decoder(transform, settings.max_pixels, budget, engine.compute, metrics.decode.observe)
    batcher: Batcher[Item, Scores] = Batcher(
        decoder.compute, settings.max_batch, settings.queue, engine.workers,
        lambda size, _seconds: metrics.batch_size.observe(size), LONGEST,
    )  # fmt: skip
    stack.push_async_callback(asyncio.to_thread, batcher.close)
    pairing = await open_pairing(settings, bundle, store)
    inference = _inference(settings, engine, decoder, batcher, pairing, stack)
    current = Live(store, bundle, engine, log, activation, lambda one: metrics.swapped(one.actor))
    limits = child.Limits(settings.refit_timeout, settings.refit_memory or memory() * 3 // 4, settings.refit_cpu)
    lease = Lease(store, "refits")
    pinned = await asyncio.to_thread(_pinned, settings.gate_holdout, bundle)
    refitter = partial(refitting, store, bundle, current, limits=limits, confirm=lease.renew, pinned=pinned)
    jobs = Jobs(
        store, settings.refit_queue, refitter() if settings.refit == "here" else None, lease, settings.follow
    )  # fmt: skip
    converter = Converter(settings.max_snapshot_bytes)
    uploads = Turnstile(settings.max_uploads, "uploads")
    await jobs.open()
    if settings.follow:
        following = asyncio.create_task(current.follow(settings.follow))
        stack.callback(following.cancel)
    stack.push_async_callback(jobs.close)
    service = Service(
        settings, bundle, precision, store, engine, batcher, inference, current, jobs, metrics, converter, uploads,
        *_open_answers(settings, bundle, store, stack),
    )  # fmt: skip
    if settings.workers > 1:
        counting = asyncio.create_task(system.keep_counting(service))
        stack.callback(counting.cancel)
    LOG.info(
        "serving %s, head %d, %d classes, on %s%s",
        bundle.manifest.name, activation.head, len(head.classes), engine.device,
        f" in {precision} precision" if engine.size else "; features only",
    )  # fmt: skip
    return service


def _inference(
    settings: Settings, engine: Engine, decoder: Decoder, batcher: Batcher[Item, Scores], pairing: Pairing | None,
    stack: contextlib.AsyncExitStack,
) -> Inference:  # fmt: skip
    """What decodes and computes, and tells what it answered where pairs are collected."""
    threads = settings.decode_threads or (cores() if engine.device == "cuda" else 0)
    answered = {} if pairing is None else {"answered": pairing.offer}
    inference = Inference(decoder, engine, batcher, threads, settings.queue, settings.deadline, **answered)
    stack.push_async_callback(asyncio.to_thread, inference.close)
    if pairing is not None:
        stack.push_async_callback(pairing.close)
    return inference


def _bundle(folder: Path) -> Bundle:
    """The bundle, with its taxonomy read and checked before the first request needs it."""
    found = read_bundle(folder)
    _ = found.taxonomy
    return found


def _open_answers(
    settings: Settings, bundle: Bundle, store: Store, stack: contextlib.AsyncExitStack
) -> tuple[Answers, Examples]:
    """The answers and the examples of the store, which are written and kept beside the requests."""
    bounds = Bounds(settings.remember, settings.remember_days, settings.remember_bytes, settings.remember_images)
    answered, labelled = Answers(store, bounds, groups_of(bundle)), Examples(store)
    stack.push_async_callback(answered.close)
    keeping = asyncio.create_task(remembering.run(answered, labelled, Removal(store, answered, labelled)))
    stack.callback(keeping.cancel)
    return answered, labelled


def _open_schedule(service: Service, stack: contextlib.AsyncExitStack) -> None:
    """Refits that start by themselves, on the server that runs them."""
    settings, nightly = service.settings, service.settings.refit_nightly
    occasions = Occasions(settings.refit_after_labels, None if nightly is None else time.fromisoformat(nightly))
    if settings.refit == "here" and occasions:
        backbone = service.bundle.backbone_digest
        schedule = Schedule(service.jobs, service.store, service.examples, backbone, occasions)
        stack.callback(asyncio.create_task(schedule.run()).cancel)


def _pinned(path: Path | None, bundle: Bundle) -> Pinned | None:
    """The hold-out that the operator has pinned, checked."""
    if path is None:
        return None
    with about("gate_holdout"):
        found = read_pinned(path, bundle)
    LOG.info("refits are judged on the pinned hold-out %s: %d rows of %d classes", path, found.rows, found.classes)
    return found


class Server(uvicorn.Server):
    """Uvicorn, which stops refits first at shutdown, since their open event streams would delay it."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    def end(self) -> None:
        """Stop in order, even if it has not begun to serve."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop accepting connections, finish requests in flight, shut the app down."""
        for one in self.servers:
            one.close()
        for listening in sockets or []:
            listening.close()
        await self._app.state.service.jobs.close()
        await super().shutdown(sockets)


def config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration: no access log of its own, and no logging setup."""
    return uvicorn.Config(
        app.middleware_stack or app,  # FastAPI's own entry looks for OpenTelemetry in every request
        http=type("Protocol", (PatientProtocol,), {"pace": pace_of(settings)}),
        ws="none",
        host=settings.host,
        port=settings.port,
        access_log=False,
        proxy_headers=False,  # `Forwarded` reads them
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # passed on to asyncio, which takes fractions
        log_config=None,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
        lifespan="on",
    )


def run(
    settings: Settings,
    sockets: list[socket] | None = None,
    beside: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests in flight and return.

    Args:
        settings: every knob.
        sockets: that listen already. None means that they are created for the address in the settings, before anything
            else is opened.
        beside: what runs beside the server as soon as it can answer.

    Raises:
        BreadcrumbsError: bundle, store or device cannot be used, or the address cannot be listened on.
    """
    logs.configure(settings.log_format, settings.log_level)
    if sockets is None:  # otherwise the parent process has warned
        environment.warn()
    stop: Callable[[], None] = _interrupt
    # Uvicorn has handlers of its own while it serves, and raises the signal again once it has shut down in order; that
    # must not turn success into failure.
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop())

    async def serve(server: Server, listening: list[socket]) -> None:
        nonlocal stop
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def give_up() -> None:
            nonlocal stop
            stop = server.end  # a second signal must not cut short what the first has begun to close
            loop.call_soon_threadsafe(cast("asyncio.Task[None]", task).cancel)

        stop = give_up
        async with app.router.lifespan_context(app):
            stop = server.end
            other = None if beside is None else asyncio.create_task(beside())
            if sockets is None:
                LOG.info("running on %s (Ctrl-C ends it)", url(listening[0]))
            await server.serve(listening)
            if other is not None:
                other.cancel()

    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        app = create_app(settings)
        how = config(app, settings)
        how.lifespan = "off"  # so that our errors are raised, not logged by uvicorn as tracebacks
        listening = sockets or [stack.enter_context(one) for one in listen(settings.host, settings.port)]
        with asyncio.Runner(loop_factory=how.get_loop_factory()) as runner:
            runner.run(serve(Server(app, how), listening))


def _interrupt() -> None:
    raise KeyboardInterrupt
