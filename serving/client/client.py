"""A typed client of the server's public HTTP API, for the command line, scripts and tests.

    with Client("http://127.0.0.1:8000") as client:
        client.predict("oak.jpg").predictions[0].classes[0]

Its methods are the calls of `serving.client.calls` and `serving.client.example_calls`, with their arguments and types,
and those that take more than one request, of `serving.client.steps`. `serving.client.retries` decides what is retried.
It knows nothing of what the server does.
"""

import inspect
import time
from collections.abc import Callable, Iterator
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx
from pydantic import ValidationError

from breadcrumbs.serving.client import calls, example_calls, steps, trial_calls
from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.client.retries import RETRIES, Attempts, Retries, ServerError
from breadcrumbs.serving.client.steps import Done, Steps, advance
from breadcrumbs.serving.http.schemas import JobDetail
from breadcrumbs.serving.learning.example_files import FileFormat

__all__ = ["Client", "Retries", "ServerError"]

P = ParamSpec("P")
T = TypeVar("T")


def like(method: Callable[..., Any], make: Callable[..., Call[Any] | Steps[Any]]) -> None:
    """Give a method the name, the docstring and, for `help`, the signature of what makes its call."""
    own = inspect.signature(make)
    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    answer = get_args(own.return_annotation)[-1]
    update_wrapper(method, make)
    method.__dict__["__signature__"] = own.replace(parameters=[me, *own.parameters.values()], return_annotation=answer)


def _sent(make: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    """The method that makes a call and sends it."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make(*args, **kwargs))

    like(method, make)
    return method


def _stepped(make: Callable[P, Steps[T]]) -> Callable[Concatenate["Client", P], T]:
    """The method that takes steps, one call after the other."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        way = make(*args, **kwargs)
        step = advance(way)
        while not isinstance(step, Done):
            try:
                answer = self.send(step)
            except ServerError as error:
                step = advance(way, error=error)
            else:
                step = advance(way, answer)
        return step.answer

    like(method, make)
    return method


def _check(url: str, key: str | None) -> None:
    """Refuse what httpx would raise errors of its own for.

    Raises:
        ServerError: `url` is no server's URL, or `key` cannot be sent.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ServerError(
            f"{url!r}: expected a server's URL, as http://127.0.0.1:8000 ({error})", kind="url"
        ) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ServerError(f"{url!r}: expected a server's URL, as http://127.0.0.1:8000", kind="url")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ServerError(
            "the key: expected one as `breadcrumbs keys add` printed it, got other characters", kind="key"
        )


class Connection:
    """What both clients share: settings, what is retried, and how answers are read."""

    def __init__(self, url: str, timeout: float, key: str | None, retries: Retries | int) -> None:
        _check(url, key)
        self.url = url
        self._retries = Retries(most=retries) if isinstance(retries, int) else retries
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.settings: dict[str, Any] = {"base_url": url, "timeout": timeout, "headers": headers}

    def attempts(self, call: Call[Any]) -> Attempts:
        """Count the attempts at a call."""
        return Attempts(self._retries, call.repeatable, f"no answer from {self.url}")

    def following(self, job: str) -> Attempts:
        """Count those at a stream of events, which is taken up again whatever broke it: it has a sign of life in it."""
        lost = f"the events of refit {job} broke off"
        return Attempts(self._retries, repeatable=True, lost=lost, broken=(httpx.TransportError,))

    def read(self, call: Call[T], answer: httpx.Response) -> T:
        """Return what a call is answered with.

        Raises:
            ServerError: the answer is not one of a Breadcrumbs server.
        """
        try:
            return call.read(answer.content)
        except (ValidationError, ValueError) as error:
            what = f"{call.method} {call.path} at {self.url}"
            raise ServerError(
                f"{what}: expected the answer of a Breadcrumbs server, got {answer.text[:200]!r}"
            ) from error


class Client(Connection):
    """A connection to one server. Every method raises `ServerError`.

    Args:
        url: of the server, for example `http://127.0.0.1:8000`.
        timeout: seconds to wait for an answer.
        transport: another httpx transport, for tests.
        key: API key, if the server has keys.
        retries: how often and how long a request that is safe to repeat is retried; a number: at most so often.
    """

    def __init__(
        self, url: str, timeout: float = 60.0, transport: httpx.BaseTransport | None = None, key: str | None = None,
        retries: Retries | int = RETRIES,
    ) -> None:  # fmt: skip
        super().__init__(url, timeout, key, retries)
        self._http = httpx.Client(transport=transport, **self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    predict = _stepped(steps.predict)
    predict_features = _stepped(steps.predict_features)
    features = _stepped(steps.features)
    snapshot = _stepped(steps.snapshot)
    answer = _sent(example_calls.answer)
    queue = _sent(example_calls.queue)
    classes = _sent(example_calls.classes)
    label = _stepped(steps.label)
    labels = _sent(example_calls.labels)
    examples = _sent(example_calls.examples)
    example = _sent(example_calls.example)
    example_suspects = _sent(example_calls.example_suspects)
    import_examples = _sent(example_calls.import_examples)
    erase = _sent(example_calls.erase)
    erase_example = _sent(example_calls.erase_example)
    put_snapshot = _sent(calls.put_snapshot)
    snapshots = _sent(calls.snapshots)
    snapshot_record = _sent(calls.snapshot_record)
    snapshot_suspects = _sent(calls.snapshot_suspects)
    delete_snapshot = _sent(calls.delete_snapshot)
    refit = _sent(calls.refit)
    jobs = _sent(calls.jobs)
    job = _sent(calls.job)
    report_page = _sent(calls.report_page)
    restart = _sent(calls.restart)
    cancel = _sent(calls.cancel)
    heads = _sent(calls.heads)
    head = _sent(calls.head)
    head_onnx = _sent(calls.head_onnx)
    activate = _sent(calls.activate)
    rollback = _sent(calls.rollback)
    activations = _sent(calls.activations)
    lines = _sent(calls.lines)
    line = _sent(calls.line)
    create_line = _sent(calls.create_line)
    remove_line = _sent(calls.remove_line)
    start_trial = _sent(trial_calls.start_trial)
    trials = _sent(trial_calls.trials)
    trial = _sent(trial_calls.trial)
    end_trial = _sent(trial_calls.end_trial)
    put_prior = _sent(calls.put_prior)
    priors = _sent(calls.priors)
    prior = _sent(calls.prior)
    delete_prior = _sent(calls.delete_prior)
    samples = _sent(calls.samples)
    sample = _sent(calls.sample)
    alive = _sent(calls.alive)
    ready = _sent(calls.ready)
    metrics = _sent(calls.metrics)

    def export_examples(self, path: Path, kind: FileFormat = "parquet") -> int:
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
                    with self._http.stream(call.method, call.path, **call.more) as answer:
                        if answer.is_success:
                            size = 0
                            with part.open("wb") as file:
                                for chunk in answer.iter_bytes():
                                    size += file.write(chunk)
                            part.replace(path)
                            return size
                        answer.read()
                        failure = answer
                except httpx.TransportError as error:
                    failure = error
                time.sleep(tries.wait(failure))
        finally:
            part.unlink(missing_ok=True)

    def events(self, job: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield a refit's events after number `after` until it has ended; a broken stream is taken up again."""
        tries = self.following(job)
        while True:
            failure: Exception | httpx.Response
            try:
                call = calls.events(job, after)
                with self._http.stream(call.method, call.path, **call.more) as answer:
                    if answer.is_success:
                        for line in answer.iter_lines():
                            if event := calls.event(line):
                                after, tries = event["id"], self.following(job)
                                yield event
                        return
                    answer.read()
                    failure = answer
            except httpx.TransportError as error:
                failure = error
            time.sleep(tries.wait(failure))

    def wait(self, job: str) -> JobDetail:
        """Wait until a refit has ended and return it."""
        for _ in self.events(job):
            pass
        return self.job(job)

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that is safe, and return its answer; of a list, all its pages together."""
        answer, following = self._send(call)
        while following is not None and call.join is not None:
            more, following = self._send(following)
            answer = call.join(answer, more)
        return answer

    def _send(self, call: Call[T]) -> tuple[T, Call[T] | None]:
        tries = self.attempts(call)
        while True:
            failure: Exception | httpx.Response
            try:
                body = call.content if call.upload is None else call.upload.chunks()
                failure = answer = self._http.request(call.method, call.path, content=body, **call.more)
                if answer.is_success or (tries.repeats and answer.status_code == call.done):
                    return self.read(call, answer), call.following(answer.content)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failure = error
            time.sleep(tries.wait(failure))
