"""The client for asyncio: the methods of `breadcrumbs.Client`, with the same arguments and types, to be awaited.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        (await client.predict("oak.jpg")).predictions[0].classes[0]

It knows nothing of what the server does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from breadcrumbs.serving.client import calls, example_calls, steps, trial_calls
from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.client.client import Connection, like
from breadcrumbs.serving.client.retries import RETRIES, Retries, ServerError
from breadcrumbs.serving.client.steps import Done, Steps, advance
from breadcrumbs.serving.http.schemas import JobDetail
from breadcrumbs.serving.learning.example_files import FileFormat

__all__ = ["AsyncClient", "Retries", "ServerError"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(make: Callable[P, Call[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The method that makes a call, in a thread since it may read files, and sends it."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(await asyncio.to_thread(make, *args, **kwargs))

    like(method, make)
    return method


def _stepped(make: Callable[P, Steps[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The method that takes steps, each made in a thread since it may read files, and sends their calls."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        way = make(*args, **kwargs)
        step = await asyncio.to_thread(advance, way)
        while not isinstance(step, Done):
            try:
                answer = await self.send(step)
            except ServerError as error:
                step = await asyncio.to_thread(advance, way, error=error)
            else:
                step = await asyncio.to_thread(advance, way, answer)
        return step.answer

    like(method, make)
    return method


class AsyncClient(Connection):
    """A connection to one server, with the arguments of `Client`. Every method raises `ServerError`."""

    def __init__(
        self, url: str, timeout: float = 60.0, transport: httpx.AsyncBaseTransport | None = None,
        key: str | None = None, retries: Retries | int = RETRIES,
    ) -> None:  # fmt: skip
        super().__init__(url, timeout, key, retries)
        self._http = httpx.AsyncClient(transport=transport, **self.settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    predict = _stepped(steps.predict)
    predict_features = _stepped(steps.predict_features)
    features = _stepped(steps.features)
    snapshot = _stepped(steps.snapshot)
    answer = _awaited(example_calls.answer)
    queue = _awaited(example_calls.queue)
    classes = _awaited(example_calls.classes)
    label = _stepped(steps.label)
    labels = _awaited(example_calls.labels)
    examples = _awaited(example_calls.examples)
    example = _awaited(example_calls.example)
    example_suspects = _awaited(example_calls.example_suspects)
    import_examples = _awaited(example_calls.import_examples)
    erase = _awaited(example_calls.erase)
    erase_example = _awaited(example_calls.erase_example)
    start_trial = _awaited(trial_calls.start_trial)
    trials = _awaited(trial_calls.trials)
    trial = _awaited(trial_calls.trial)
    end_trial = _awaited(trial_calls.end_trial)
    put_snapshot = _awaited(calls.put_snapshot)
    snapshots = _awaited(calls.snapshots)
    snapshot_record = _awaited(calls.snapshot_record)
    snapshot_suspects = _awaited(calls.snapshot_suspects)
    delete_snapshot = _awaited(calls.delete_snapshot)
    refit = _awaited(calls.refit)
    jobs = _awaited(calls.jobs)
    job = _awaited(calls.job)
    report_page = _awaited(calls.report_page)
    restart = _awaited(calls.restart)
    cancel = _awaited(calls.cancel)
    heads = _awaited(calls.heads)
    head = _awaited(calls.head)
    head_onnx = _awaited(calls.head_onnx)
    activate = _awaited(calls.activate)
    rollback = _awaited(calls.rollback)
    activations = _awaited(calls.activations)
    lines = _awaited(calls.lines)
    line = _awaited(calls.line)
    create_line = _awaited(calls.create_line)
    remove_line = _awaited(calls.remove_line)
    put_prior = _awaited(calls.put_prior)
    priors = _awaited(calls.priors)
    prior = _awaited(calls.prior)
    delete_prior = _awaited(calls.delete_prior)
    samples = _awaited(calls.samples)
    sample = _awaited(calls.sample)
    alive = _awaited(calls.alive)
    ready = _awaited(calls.ready)
    metrics = _awaited(calls.metrics)

    async def export_examples(self, path: Path, kind: FileFormat = "parquet") -> int:
        """Write all examples with their features to a file, which is whole or as it was; return its bytes.

        Args:
            path: of the file.
            kind: Parquet, or JSON lines.

        Raises:
            OSError: it cannot be written.
        """
        call, part = example_calls.export_examples(kind), path.with_name(f".{path.name}.part")
        tries = self.attempts(call)
        try:
            while True:
                failure: Exception | httpx.Response
                try:
                    async with self._http.stream(call.method, call.path, **call.more) as answer:
                        if answer.is_success:
                            size = 0
                            with part.open("wb") as file:
                                async for chunk in answer.aiter_bytes():
                                    size += file.write(chunk)
                            part.replace(path)
                            return size
                        await answer.aread()
                        failure = answer
                except httpx.TransportError as error:
                    failure = error
                await asyncio.sleep(tries.wait(failure))
        finally:
            part.unlink(missing_ok=True)

    async def events(self, job: str, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """Yield a refit's events after number `after` until it has ended; a broken stream is taken up again."""
        tries = self.following(job)
        while True:
            failure: Exception | httpx.Response
            try:
                call = calls.events(job, after)
                async with self._http.stream(call.method, call.path, **call.more) as answer:
                    if answer.is_success:
                        async for line in answer.aiter_lines():
                            if event := calls.event(line):
                                after, tries = event["id"], self.following(job)
                                yield event
                        return
                    await answer.aread()
                    failure = answer
            except httpx.TransportError as error:
                failure = error
            await asyncio.sleep(tries.wait(failure))

    async def wait(self, job: str) -> JobDetail:
        """Wait until a refit has ended and return it."""
        async for _ in self.events(job):
            pass
        return await self.job(job)

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where that is safe, and return its answer; of a list, all its pages together."""
        answer, following = await self._send(call)
        while following is not None and call.join is not None:
            more, following = await self._send(following)
            answer = call.join(answer, more)
        return answer

    async def _send(self, call: Call[T]) -> tuple[T, Call[T] | None]:
        tries = self.attempts(call)
        while True:
            failure: Exception | httpx.Response
            try:
                body = call.content if call.upload is None else call.upload.chunks_async()
                failure = answer = await self._http.request(call.method, call.path, content=body, **call.more)
                if answer.is_success or (tries.repeats and answer.status_code == call.done):
                    return self.read(call, answer), call.following(answer.content)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failure = error
            await asyncio.sleep(tries.wait(failure))
