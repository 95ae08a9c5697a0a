"""Refits that start by themselves, by a clock that the test sets: when they do, and when they do not."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import FAKE, make_settings
from tiny import CLASSES

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.learning.example import Label, Said, identity
from breadcrumbs.serving.refits.job import Job
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.refits.schedule import NIGHT, Occasions, Schedule

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
EVENING = time(18, 30)
Act = Callable[[Service], Awaitable[None]]


def serving(bundle: Bundle, store: Path, act: Act, *mode: str, **more: Any) -> None:
    """Do something with the parts of a server."""

    async def live() -> None:
        app = create_app(make_settings(bundle, store, **more), [*FAKE, *mode])
        async with app.router.lifespan_context(app):
            await act(app.state.service)

    asyncio.run(live())


async def teach(service: Service, count: int, first: int = 0, *, name: str = CLASSES[0], verified: bool = True) -> None:
    """Label so many things, each known by its number."""
    backbone = service.bundle.backbone_digest
    labels = []
    for number in range(first, first + count):
        content = f"{number:064x}"
        said = Said(
            identity(None, content), name, "", verified, f"feature:{content}", content, "", backbone, None
        )  # fmt: skip
        labels.append(Label(said, np.full(4, number, np.float32)))
    await service.examples.add(labels)


def schedule(service: Service, after_labels: int = 0, nightly: time | None = None, at: datetime = NOON) -> Schedule:
    """A schedule of a server, by a clock that stands."""
    occasions = Occasions(after_labels, nightly)
    return Schedule(
        service.jobs, service.store, service.examples, service.bundle.backbone_digest, occasions, lambda: at
    )


async def ended(service: Service, job: Job | None) -> Job:
    """Wait for the end of a refit that there must be."""
    assert job is not None
    history = await service.jobs.find(job.id)
    await history.ended()
    return history.job


def test_enough_new_labels_start_a_refit(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Fewer do not; what a refit has taken is not new; a thing that is labelled anew is."""

    async def act(service: Service) -> None:
        wanted = schedule(service, after_labels=3)
        await teach(service, 2)
        assert await wanted.look() is None
        await teach(service, 5, 100, verified=False)
        assert await wanted.look() is None
        await teach(service, 1, 2)

        job = await ended(service, await wanted.look())
        assert (job.state, job.request.which, job.owner) == ("succeeded", "verified", None)
        assert (await service.live.log())[-1].actor == f"refit {job.id} by schedule"

        assert await wanted.look() is None
        await teach(service, 2)  # the same labels once more
        assert await wanted.look() is None
        await teach(service, 3, name=CLASSES[1])
        assert (await ended(service, await wanted.look())).state == "succeeded"

    serving(tiny_bundle, tmp_path / "store", act)


def test_a_refit_that_somebody_started_takes_the_labels_too(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What counts is the last refit that took examples, by whomever; one without examples does not count."""

    async def act(service: Service) -> None:
        wanted = schedule(service, after_labels=2)
        await teach(service, 2)
        await ended(service, await service.jobs.start(RefitRequest()))
        await ended(service, await service.jobs.start(RefitRequest(examples="none")))
        assert await wanted.look() is None
        assert await schedule(service, after_labels=2).look() is None

    serving(tiny_bundle, tmp_path / "store", act)


@pytest.mark.parametrize("nightly", [None, EVENING])
def test_none_starts_while_one_runs_or_waits(tiny_bundle: Bundle, tmp_path: Path, nightly: time | None) -> None:
    """However many labels came, and whatever the time; afterwards one starts."""
    gate = tmp_path / "gate"

    async def act(service: Service) -> None:
        wanted = schedule(service, 1, nightly, NOON.replace(hour=19))
        running = await service.jobs.start(RefitRequest(examples="none"))
        await teach(service, 5)
        assert await wanted.look() is None
        waiting = await service.jobs.start(RefitRequest(examples="none"))
        assert await wanted.look() is None
        gate.touch()
        for job in (running, waiting):
            await ended(service, job)
        assert (await ended(service, await wanted.look())).state == "succeeded"

    serving(tiny_bundle, tmp_path / "store", act, "waits", str(gate))


def test_a_refit_starts_once_a_night_if_there_is_something_new(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Not before its time, not again in the same night even by another server, and again in the next."""

    async def act(service: Service) -> None:
        night = datetime.combine(NOON.date(), EVENING, UTC)
        assert await schedule(service, nightly=EVENING, at=night).look() is None
        await teach(service, 1)
        assert await schedule(service, nightly=EVENING, at=night - timedelta(minutes=1)).look() is None
        wanted = schedule(service, nightly=EVENING, at=night)

        first = await ended(service, await wanted.look())
        await teach(service, 1, 1)
        assert await wanted.look() is None
        again = await schedule(service, nightly=EVENING, at=night + timedelta(hours=1)).look()
        assert (again and again.id) == first.id  # it was started already: nothing runs
        later = schedule(service, nightly=EVENING, at=night + timedelta(days=1, minutes=5))
        assert (await ended(service, await later.look())).id != first.id

    serving(tiny_bundle, tmp_path / "store", act)


@pytest.mark.parametrize("mode", ["mistake", "crashes"])
def test_a_refit_that_failed_is_not_tried_again_at_once(tiny_bundle: Bundle, tmp_path: Path, mode: str) -> None:
    """New labels are needed first, also after the server was started again."""

    async def act(service: Service) -> None:
        wanted = schedule(service, after_labels=2)
        await teach(service, 2)
        assert (await ended(service, await wanted.look())).state == "failed"
        assert await wanted.look() is None

    async def later(service: Service) -> None:
        wanted = schedule(service, after_labels=2)
        assert await wanted.look() is None
        await teach(service, 2, 2)
        assert (await ended(service, await wanted.look())).state == "failed"

    serving(tiny_bundle, tmp_path / "store", act, mode)
    serving(tiny_bundle, tmp_path / "store", later, mode)


def test_a_refit_that_was_interrupted_is_started_again(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Its server stopped, so its labels are in no head yet."""

    async def act(service: Service) -> None:
        await teach(service, 2)
        job = await schedule(service, after_labels=2).look()
        assert job is not None
        history = await service.jobs.find(job.id)
        async for event in history.follow(0):
            if event is not None and event.get("stage") == "read":
                break

    async def later(service: Service) -> None:
        assert (await ended(service, await schedule(service, after_labels=2).look())).state == "succeeded"

    serving(tiny_bundle, tmp_path / "store", act, "hangs", str(tmp_path / "pid"))
    serving(tiny_bundle, tmp_path / "store", later)


def test_a_server_that_does_not_run_refits_starts_none(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Only the one that has the lease does."""

    async def act(service: Service) -> None:
        await teach(service, 5)
        assert await schedule(service, 1, EVENING, NOON.replace(hour=19)).look() is None

    serving(tiny_bundle, tmp_path / "store", act, refit="elsewhere")


def test_a_server_starts_refits_by_its_settings(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The task runs beside the requests, and ends with the server."""

    async def act(service: Service) -> None:
        tasks = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        assert ("Schedule.run" in tasks) == bool(service.settings.refit_after_labels)

    serving(tiny_bundle, tmp_path / "store", act, refit_after_labels=1000)
    serving(tiny_bundle, tmp_path / "store", act)


@given(
    st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    st.timedeltas(timedelta(days=-3000), timedelta(days=3000)).map(lambda far: NOON + far),
)
def test_a_night_begins_at_its_time_and_lasts(nightly: time, now: datetime) -> None:
    """It has the day on which it began, after midnight too."""
    day = Occasions(nightly=nightly).night(now)

    begins = [datetime.combine((now - timedelta(days=n)).date(), nightly, UTC) for n in (0, 1)]
    inside = [begin for begin in begins if begin <= now < begin + NIGHT]
    assert day == (inside[0].date().isoformat() if inside else None)
