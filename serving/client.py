"""A typed client of the server's public HTTP API, for the command line, scripts and tests.

    with Client("http://127.0.0.1:8000") as client:
        client.predict([Path("oak.jpg")]).predictions[0].classes[0]

It knows the paths and the bodies, and nothing of what the server does with them.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from models.door import NONE_GIVEN
from models.errors import BreadcrumbsError
from models.parts import Given
from serving.activations import Activation
from serving.heads import HeadRecord
from serving.job import Job
from serving.refit import RefitRequest
from serving.schemas import (
    ActivateBody,
    ActivationList,
    FeaturesResponse,
    HeadList,
    Health,
    JobDetail,
    JobList,
    PredictResponse,
    SnapshotList,
)
from serving.snapshots import SnapshotRecord
from training.config import RefitSpec

Model = TypeVar("Model", bound=BaseModel)
Images = Sequence[Path | bytes]

RECONNECTS = 5
"""Times that a broken event stream is taken up again without one event in between."""


class ServerError(BreadcrumbsError):
    """The server refused, in its own words; or there is none.

    Attributes:
        status: HTTP status; 0 where no answer came.
        kind: the type that the server gives the error.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "unreachable") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Client:
    """A connection to one server. Every method raises `ServerError`.

    Args:
        url: where the server is, for example `http://127.0.0.1:8000`.
        timeout: seconds to wait for an answer.
        transport: another way to carry requests, for tests.
        key: to come in with, where the server has keys.
    """

    def __init__(
        self, url: str, timeout: float = 60.0, transport: httpx.BaseTransport | None = None, key: str | None = None
    ) -> None:
        self.url = url
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, timeout=timeout, transport=transport, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def predict(self, images: Images, top_k: int = 5, head: str | int = "active") -> PredictResponse:
        """Classify images, given as paths or as the bytes of files."""
        answer = self._send("POST", "/v1/predict", files=_files(images), params={"top_k": top_k, "head": head})
        return PredictResponse.model_validate_json(answer.content)

    def features(self, images: Images) -> FeaturesResponse:
        """Return the features of images."""
        answer = self._send("POST", "/v1/features", files=_files(images), params={"format": "json"})
        return FeaturesResponse.model_validate_json(answer.content)

    def snapshot(self, images: Images, labels: Sequence[str | int], epoch: int) -> bytes:
        """Return the bytes of a snapshot of labelled images; labels are class names or indices."""
        words = {"labels": json.dumps(list(labels)), "epoch": str(epoch)}
        params = {"format": "safetensors"}
        return self._send("POST", "/v1/features", files=_files(images), data=words, params=params).content

    def put_snapshot(self, path: Path, given: Given = NONE_GIVEN) -> SnapshotRecord:
        """Upload a snapshot in any format; `given` is for what a file that is not safetensors leaves out."""
        params = {name: value for name, value in asdict(given).items() if value is not None}
        with path.open("rb") as file:
            return self._get(SnapshotRecord, "/v1/snapshots", "PUT", content=file, params=params)

    def snapshots(self) -> list[SnapshotRecord]:
        """List all snapshots, the newest epoch first."""
        return self._get(SnapshotList, "/v1/snapshots").snapshots

    def delete_snapshot(self, sha256: str) -> None:
        """Delete a snapshot."""
        self._send("DELETE", f"/v1/snapshots/{sha256}")

    def refit(
        self,
        snapshots: Sequence[str] = (),
        spec: RefitSpec | None = None,
        holdout: str | None = None,
        key: str | None = None,
    ) -> Job:
        """Start a refit from stored snapshots, named by their sha256; the same `key` starts it once only."""
        wanted = RefitRequest(snapshots=list(snapshots), holdout=holdout, spec=spec or RefitSpec())
        headers = {"Idempotency-Key": key} if key else {}
        return self._get(Job, "/v1/refit", "POST", json=wanted.model_dump(mode="json"), headers=headers)

    def jobs(self) -> list[Job]:
        """List all refits, the newest first."""
        return self._get(JobList, "/v1/refit").refits

    def job(self, job: str) -> JobDetail:
        """Tell how far a refit has come; its report, once it has one."""
        return self._get(JobDetail, f"/v1/refit/{job}")

    def report_page(self, job: str) -> bytes:
        """Download a refit's report as a page."""
        return self._send("GET", f"/v1/refit/{job}/report.html").content

    def events(self, job: str, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield a refit's events after number `after` until it has ended; a broken stream is taken up again."""
        left = RECONNECTS
        while True:
            try:
                for event in self._stream(job, after):
                    after, left = event["id"], RECONNECTS
                    yield event
            except httpx.TransportError as error:
                left -= 1
                if not left:
                    raise ServerError(f"the events of refit {job} broke off: {error}") from error
            else:
                return

    def _stream(self, job: str, after: int) -> Iterator[dict[str, Any]]:
        headers = {"Last-Event-ID": str(after)}
        with self._http.stream("GET", f"/v1/refit/{job}/events", headers=headers) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def restart(self, job: str) -> Job:
        """Start a refit that came to nothing once more, as a new job."""
        return self._get(Job, f"/v1/refit/{job}/restart", "POST")

    def wait(self, job: str) -> JobDetail:
        """Wait until a refit has ended and return it."""
        for _ in self.events(job):
            pass
        return self.job(job)

    def cancel(self, job: str) -> Job:
        """Cancel a refit that waits or runs."""
        return self._get(Job, f"/v1/refit/{job}", "DELETE")

    def heads(self) -> HeadList:
        """List all heads, the newest first, and say which is live."""
        return self._get(HeadList, "/v1/heads")

    def head(self, version: int) -> HeadRecord:
        """Tell a head's metrics and where it comes from."""
        return self._get(HeadRecord, f"/v1/heads/{version}")

    def head_onnx(self, version: int) -> bytes:
        """Download a head as ONNX."""
        return self._send("GET", f"/v1/heads/{version}/head.onnx").content

    def activate(self, version: int, reason: str = "", expected_live: int | None = None) -> Activation:
        """Make a head live; refused if another than `expected_live` is by now."""
        body = ActivateBody(reason=reason, expected_live=expected_live).model_dump()
        return self._get(Activation, f"/v1/heads/{version}/activate", "POST", json=body)

    def rollback(self, reason: str = "") -> Activation:
        """Go back to the head that was live before."""
        return self._get(Activation, "/v1/heads/rollback", "POST", json={"reason": reason})

    def activations(self) -> list[Activation]:
        """Tell what was live when, the newest first."""
        return self._get(ActivationList, "/v1/activations").activations

    def ready(self) -> Health:
        """Tell that images can be answered now; raises with the reason if not."""
        return self._get(Health, "/readyz")

    def _get(self, model: type[Model], path: str, method: str = "GET", **more: Any) -> Model:
        return model.model_validate_json(self._send(method, path, **more).content)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServerError(f"no answer from {self.url}: {error}") from error
        if answer.is_error:
            raise _refusal(answer)
        return answer


def _refusal(answer: httpx.Response) -> ServerError:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error = answer.json()["error"]
        return ServerError(str(error["message"]), answer.status_code, str(error["type"]))
    return ServerError(f"the server answered {answer.status_code}: {answer.text[:200]!r}", answer.status_code, "http")


def _files(images: Images) -> list[tuple[str, tuple[str, bytes]]]:
    named = [("image", item) if isinstance(item, bytes) else (item.name, item.read_bytes()) for item in images]
    return [("image", pair) for pair in named]
