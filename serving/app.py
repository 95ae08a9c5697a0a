"""The app, with its routes and what is around them, and the server that runs it until it is told to stop."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from socket import socket
from typing import cast

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Mount, Route

from breadcrumbs.serving import environment, logs
from breadcrumbs.serving.assembly import open_schedule, open_service
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
    label_studio,
    lines,
    open_inference,
    predict,
    priors,
    refit,
    snapshots,
    system,
    trials,
)
from breadcrumbs.serving.http.shares import Held
from breadcrumbs.serving.http.traces import Traces
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.refits.worker import Refitter
from breadcrumbs.serving.setting_names import about, both
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.keys import Keys, KeysError

LOG = logging.getLogger("breadcrumbs.server")
REFIT = (sys.executable, "-P", "-m", "breadcrumbs", "refit", "--debug")
"""The program that a refit runs; with the traceback of a bug, for this server's log."""
ROUTES = (
    predict, priors, answers, examples, classes, snapshots, refit, heads, lines, trials, label_studio, open_inference,
    system, console,
)  # fmt: skip
GRACE = 30
"""Seconds that requests in flight have to finish after SIGTERM."""


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
            app.state.service = await open_service(settings, refitting, metrics, stack)
            open_schedule(app.state.service, stack)
            yield

    app: FastAPI = FastAPIOffline(
        title="Breadcrumbs",
        description="Long-tailed image classification; its head is refitted from snapshots and swapped under load.",
        lifespan=lifespan,
        redoc_url=None,
        # As they are, not included: FastAPI would build each once more, in the first request, which waits 0.1 s for it.
        routes=[route for one in ROUTES for route in one.router.routes],
    )
    errors.install(app)
    app.mount("/console", console.Pages(directory=console.FILES))
    hosts = Hosts(settings.allowed_hosts, settings.host)
    answering = Compressed(Unframed(FastPath(app, app.build_middleware_stack())))
    guarded = AccessControl(answering, keys, hosts, settings.origins, Held(settings.max_held_bytes))
    name_of = route_names([one for one in app.routes if isinstance(one, Route | Mount)])
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
            gc.freeze()  # looking through all that was loaded would hold up requests for 65 ms, again and again
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
