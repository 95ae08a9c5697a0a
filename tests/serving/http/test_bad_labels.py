"""Labels that cannot be kept, from every side that they come from: the status, one sentence, and nothing half-kept.

By bare HTTP, by both clients, by Label Studio's webhook, and where an answer is looked at or erased.
"""

# ruff: noqa: E501 - one case a line: a table to read down

import asyncio
import base64
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from running import make_settings, running
from tiny import picture, png, write_bundle_of_features

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.refusals import tell
from breadcrumbs.serving.state import keys

DAY = 86_400_000  # milliseconds
DAYS = 30.0
"""That answers are remembered."""
Labels = list[dict[str, Any]]
NO_NAMES = {
    "": "at least 1 character", " ": "is empty; name it", "\u3000\t": "control character", "oak ": "begins or ends with",
    "\u00a0oak": "begins or ends with", "o\nak": "control character", "o" * 1001: "at most 1000 characters",
    "\u202eoak": "bidi control",
}  # fmt: skip
"""Names that no class can have, and what is said of them."""


class Tenants:
    """A server with keys, and an answer that the key `a` was given."""

    def __init__(self, client: httpx.Client, secrets: dict[str, str]) -> None:
        self.client, self.secrets = client, secrets
        asked = client.post("/v1/predict", json={"features": [1, 2, 3, 4]}, headers=self.header("a"))
        self.answer = str(asked.raise_for_status().json()["predictions"][0]["id"])

    def header(self, name: str) -> dict[str, str]:
        """The header of a key."""
        return {"authorization": f"Bearer {self.secrets[name]}"}

    def examples(self) -> Any:
        """All that is kept."""
        return self.client.get("/v1/examples", headers=self.header("root")).raise_for_status().json()

    def by_http(self, labels: Labels) -> tuple[int, str]:
        """Status and message that the key `b` gets."""
        answer = self.client.post("/v1/labels", json={"labels": labels}, headers=self.header("b"))
        return answer.status_code, answer.json()["error"]["message"]

    def by_client(self, labels: Labels) -> tuple[int, str]:
        """The same by the client, which refuses by itself what is no label."""
        with Client(str(self.client.base_url), key=self.secrets["b"]) as client:
            try:
                client.labels([LabelBody.model_validate(one) for one in labels])
            except ServerError as error:
                return error.status, str(error)
            except ValidationError as error:
                return 422, tell(error)
        return 200, ""

    def by_asyncio(self, labels: Labels) -> tuple[int, str]:
        """The same by the client for asyncio."""

        async def send() -> None:
            async with AsyncClient(str(self.client.base_url), key=self.secrets["b"]) as client:
                await client.labels([LabelBody.model_validate(one) for one in labels])

        try:
            asyncio.run(send())
        except ServerError as error:
            return error.status, str(error)
        except ValidationError as error:
            return 422, tell(error)
        return 200, ""


@pytest.fixture(scope="module")
def tenants(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """One server for the file; no test leaves an example in it."""
    folder = tmp_path_factory.mktemp("tenants")
    scopes = {"a": ("predict",), "b": ("predict", "refit"), "root": ("admin",)}
    secrets = {name: keys.add(folder / "keys.json", name, each) for name, each in scopes.items()}
    more = {"remember": 1000, "remember_days": DAYS, "max_images": 4, "keys": folder / "keys.json"}
    with running(make_settings(tiny_bundle, folder / "store", label_studio="http://127.0.0.1:9", **more)) as client:
        yield Tenants(client, secrets)


def feature(seed: int = 0) -> dict[str, Any]:
    """A thing to label."""
    return {"feature": np.random.default_rng(seed).normal(size=4).tolist()}


def image(seed: int, size: int | None = None) -> dict[str, Any]:
    """An image to label, of its first `size` bytes."""
    return {"image": base64.b64encode(png(picture(seed))[:size]).decode(), "class": "oak"}


def made(days: float) -> str:
    """The id of an answer that was given so many days ago."""
    return answer_ids.make(int(time.time() * 1000 - days * DAY))


BAD: dict[str, tuple[Callable[[Tenants], Labels], int, tuple[str, ...]]] = {
    "unknown answer": (lambda _: [{"answer": made(0), "class": "oak"}], 404, ("there is no answer", "never remembered")),
    "no id": (lambda _: [{"answer": "x", "class": "oak"}], 404, ("there is no answer 'x'", "expected the id of a")),
    "an id of tomorrow": (lambda _: [{"answer": made(-1), "class": "oak"}], 404, ("there is no answer",)),
    "expired": (lambda _: [{"answer": made(DAYS + 1), "class": "oak"}], 410, ("for 30 days", "send the image or its f")),
    "long expired": (lambda _: [{"answer": made(9000), "class": "oak"}], 410, ("is not kept any more", "in its place")),
    "another tenant's": (lambda to: [{"answer": to.answer, "class": "oak"}], 403, ("belongs to a, not to the key 'b'",)),
    "10,001 labels": (
        lambda _: [feature() | {"class": "oak"}] * 10_000, 413, ("has 10001 labels; the limit is 10000", "several requests"),
    ),
    **{
        f"image {place} of {count} is cut": (
            lambda _, place=place, count=count: [image(n, 45 if n == place else None) for n in range(1, count + 1)],
            422, (f"label {place}: ",),
        )
        for place, count in ((1, 1), (3, 4), (10, 11))
    },
    "an index of no class": (lambda _: [feature() | {"class": 3}], 422, ("class 3: expected 0 … 2, or a class name",)),
    **{
        f"a class {name[:9]!a}": (lambda _, name=name: [feature() | {"class": name}], 422, ("class", why))
        for name, why in NO_NAMES.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("way", ["by_http", "by_client", "by_asyncio"])
@pytest.mark.parametrize("case", BAD)
def test_a_label_that_cannot_be_kept_is_told_and_nothing_is_kept(tenants: Tenants, way: str, case: str) -> None:
    """Not even the good label behind it."""
    labels, status, words = BAD[case]
    before = tenants.examples()
    came, told = getattr(tenants, way)([*labels(tenants), feature(1) | {"class": "elm"}])

    assert came == status, told
    assert [one for one in words if one not in told] == []
    assert tenants.examples() == before


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("case", ["unknown answer", "no id", "expired", "long expired", "another tenant's"])
def test_an_answer_is_not_seen_or_erased_either(tenants: Tenants, method: str, case: str) -> None:
    """With the same status, and the words that fit."""
    labels, status, _ = BAD[case]
    name = labels(tenants)[0]["answer"]
    answer = tenants.client.request(method, f"/v1/answers/{name}", headers=tenants.header("b"))

    assert answer.status_code == status
    assert name in answer.json()["error"]["message"]
    assert tenants.client.get(f"/v1/answers/{tenants.answer}", headers=tenants.header("a")).status_code == 200


@pytest.mark.parametrize("name", NO_NAMES)
def test_an_annotation_names_a_class_by_the_same_rules(tenants: Tenants, name: str) -> None:
    """Whatever choices a project has: of a name that no class can have, a refit would fail, and each later one."""
    before = tenants.examples()
    config = '<View><Image name="p" value="$image"/><Choices name="c" toName="p" value="$names"/></View>'
    result = {"from_name": "c", "to_name": "p", "type": "choices", "value": {"choices": [name]}}
    body = {
        "action": "ANNOTATION_CREATED", "project": {"id": 1, "label_config": config},
        "task": {"id": 5, "data": {"image": f"data:image/png;base64,{image(1)['image']}"}},
        "annotation": {"id": 2, "task": 5, "result": [result], "completed_by": {"email": "x" * 300}},
    }  # fmt: skip
    answer = tenants.client.post("/label-studio/webhook", json=body, headers=tenants.header("b"))

    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"].startswith("task 5: class: ")
    assert NO_NAMES[name] in answer.json()["error"]["message"]
    assert tenants.examples() == before


@pytest.mark.parametrize("trained", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path: Path, trained: Any, written: Any) -> None:
    """Of the trained ones and of new ones: a Mac writes names of files in another form than most keyboards."""
    names = [unicodedata.normalize(trained, name) for name in ("pêche", "épicéa")]
    bundle = write_bundle_of_features(tmp_path / "bundle", classes=tuple(names))
    with running(make_settings(bundle, tmp_path / "store")) as client:
        said = [
            feature(0) | {"class": unicodedata.normalize(written, "pêche")},
            feature(1) | {"class": unicodedata.normalize("NFD", "châtaigne")},
            feature(2) | {"class": unicodedata.normalize("NFC", "châtaigne")},
        ]
        answer = client.post("/v1/labels", json={"labels": said}).raise_for_status().json()
        classes = {one["name"]: one["examples"] for one in client.get("/v1/classes").json()["classes"]}

    assert answer["new_classes"] == [unicodedata.normalize("NFC", "châtaigne")]
    assert classes == {names[0]: 1, names[1]: 0, answer["new_classes"][0]: 2}
