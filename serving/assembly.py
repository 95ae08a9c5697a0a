"""The parts of a server, created in order and connected; closed in the opposite order.

What each part does is in its own module. It knows nothing of routes, access or the address that is listened on.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from datetime import time
from functools import partial
from pathlib import Path

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.images import decoding
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.machine import cores, memory
from breadcrumbs.serving.http.label_studio.images import LabelStudio, read_token
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.routes import system
from breadcrumbs.serving.http.service import Service, groups_of
from breadcrumbs.serving.http.shares import Turnstile
from breadcrumbs.serving.http.trial_metrics import TrialMetrics
from breadcrumbs.serving.learning import remembering
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.intake import Intake
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
from breadcrumbs.serving.refits.schedule import ACTOR, Occasions, Schedule
from breadcrumbs.serving.refits.worker import Refitter
from breadcrumbs.serving.setting_names import about
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import live_head
from breadcrumbs.serving.state.activation_log import Activation, Log
from breadcrumbs.serving.state.bound_heads import BoundHeads
from breadcrumbs.serving.state.conversion import Converter
from breadcrumbs.serving.state.heads import read as read_head
from breadcrumbs.serving.state.lease import Lease
from breadcrumbs.serving.state.lines import Lines
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.judge import Judge
from breadcrumbs.serving.trials.starting import of_refit
from breadcrumbs.serving.trials.trial import TrialGroup
from breadcrumbs.serving.trials.trials import Trials
from breadcrumbs.serving.trials.verified import Verified

LOG = logging.getLogger("breadcrumbs.server")
LONGEST = 0.05
"""Seconds that a batch should take at most. Larger ones are no faster on a CPU, and take memory that is kept."""


async def open_service(
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
    if size is not None:
        metrics.precision.labels(precision).set(1)
    budget = Budget(settings.decode_memory)
    decoder = Decoder(transform, settings.max_pixels, budget, engine.compute, metrics.decode.observe)
    batcher: Batcher[Item, Scores] = Batcher(
        decoder.compute, settings.max_batch, settings.queue, engine.workers,
        lambda size, _seconds: metrics.batch_size.observe(size), LONGEST,
    )  # fmt: skip
    stack.push_async_callback(asyncio.to_thread, batcher.close)
    pairing = await open_pairing(settings, bundle, store)
    inference = _inference(settings, engine, decoder, batcher, pairing, stack)
    current, lines = await _open_lines(settings, bundle, store, engine, log, activation, metrics, stack)
    answered, labelled = _open_answers(settings, bundle, store, stack)
    trials = await _open_trials(settings, bundle, store, current, engine, labelled, metrics, stack)
    jobs = await _jobs(settings, bundle, store, lines, trials, refitting, metrics)
    most = settings.max_snapshot_bytes
    uploads = Turnstile(settings.max_uploads, "uploads")
    await jobs.open()
    stack.push_async_callback(jobs.close)
    service = Service(
        settings, bundle, precision, store, engine, batcher, inference, lines, jobs, metrics, Converter(most),
        Intake(most), uploads, answered, labelled, trials, pairing, _label_studio(settings, stack),
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


async def _open_lines(
    settings: Settings, bundle: Bundle, store: Store, engine: Engine, log: Log, activation: Activation,
    metrics: Metrics, stack: contextlib.AsyncExitStack,
) -> tuple[Live, Lines]:  # fmt: skip
    """The default line and all lines of the store, which are followed beside the requests."""

    def observe(one: Activation) -> None:
        metrics.swapped(one.actor)

    bound = BoundHeads(store, bundle, engine)
    default = Live(bound, log, activation, engine.live, engine.swap, observe)
    lines = Lines(bound, default, settings.max_lines, observe)
    with about("store"):
        await lines.open()
    for following in [default.follow, lines.follow] if settings.follow else []:
        stack.callback(asyncio.create_task(following(settings.follow)).cancel)
    return default, lines


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


async def _jobs(
    settings: Settings, bundle: Bundle, store: Store, lines: Lines, trials: Trials, refitting: Callable[..., Refitter],
    metrics: Metrics,
) -> Jobs:  # fmt: skip
    """The refits of the store, and what runs them where this server does."""
    limits = child.Limits(settings.refit_timeout, settings.refit_memory or memory() * 3 // 4, settings.refit_cpu)
    lease = Lease(store, "refits")
    pinned = await asyncio.to_thread(_pinned, settings.gate_holdout, bundle)
    first = None if settings.gate_trial is None else partial(of_refit, trials, settings.gate_trial)
    refitter = partial(refitting, store, bundle, lines, limits=limits, confirm=lease.renew, pinned=pinned, first=first)
    runs = refitter() if settings.refit == "here" else None

    def started(actor: str) -> None:
        metrics.refit_starts.labels(ACTOR if actor == ACTOR else "request").inc()

    return Jobs(store, settings.refit_queue, runs, lease, settings.follow, started)


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
    keeping = asyncio.create_task(remembering.run(answered, labelled, Removal(store, answered, labelled), bundle))
    stack.callback(keeping.cancel)
    return answered, labelled


def _label_studio(settings: Settings, stack: contextlib.AsyncExitStack) -> LabelStudio | None:
    """The Label Studio that images are fetched from, where one is named."""
    if settings.label_studio is None:
        return None
    with about("label_studio_token"):
        token = None if settings.label_studio_token is None else read_token(settings.label_studio_token)
    found = LabelStudio(settings.label_studio, token, settings.max_image_bytes)
    stack.push_async_callback(found.close)
    return found


async def _open_trials(
    settings: Settings, bundle: Bundle, store: Store, live: Live, engine: Engine, labelled: Examples, metrics: Metrics,
    stack: contextlib.AsyncExitStack,
) -> Trials:  # fmt: skip
    """The trials of the store, which are followed, counted and judged beside the requests."""
    verified = Verified(labelled, engine, bundle.backbone_digest)
    known: dict[str, TrialGroup] = {**groups_of(bundle)}
    trials = Trials(store, live, engine, verified, known, settings.remember > 0, TrialMetrics(metrics))
    judge = Judge(trials, live, verified, Lease(store, "trials"))
    with about("store"):
        await trials.catch_up()
    stack.push_async_callback(judge.close)
    stack.push_async_callback(trials.close)
    tasks = [trials.compare(), judge.run()] + ([trials.follow(settings.follow)] if settings.follow else [])
    for task in tasks:
        stack.callback(asyncio.create_task(task).cancel)
    return trials


def open_schedule(service: Service, stack: contextlib.AsyncExitStack) -> None:
    """Refits that start by themselves, on the server that runs them."""
    settings, nightly = service.settings, service.settings.refit_nightly
    occasions = Occasions(settings.refit_after_labels, None if nightly is None else time.fromisoformat(nightly))
    if settings.refit == "here" and occasions:
        backbone = service.bundle.backbone_digest
        waiting = service.metrics.waiting_labels.set
        schedule = Schedule(service.jobs, service.store, service.examples, backbone, occasions, waiting=waiting)
        stack.callback(asyncio.create_task(schedule.run()).cancel)


def _pinned(path: Path | None, bundle: Bundle) -> Pinned | None:
    """The hold-out that the operator has pinned, checked."""
    if path is None:
        return None
    with about("gate_holdout"):
        found = read_pinned(path, bundle)
    LOG.info("refits are judged on the pinned hold-out %s: %d rows of %d classes", path, found.rows, found.classes)
    return found
