"""Both clients label, list, look and erase."""

import asyncio
from typing import Any

import numpy as np
import pytest
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.client.images import InputError
from breadcrumbs.serving.http.examples.schemas import LabelBody


def test_from_an_answer_to_its_erasure(serve: Serve) -> None:
    """Every method does what it says."""
    with serve(remember=10) as server, Client(str(server.base_url)) as client:
        predicted = client.predict([png(picture(1)), picture(2)], ref="mine").predictions
        first, second = (one.id for one in predicted)
        assert first is not None
        assert second is not None
        assert client.answer(first).ref == "mine"
        assert [one.id for one in client.queue("uncertain", 1).answers] in ([first], [second])
        made = client.label("elm", answer=first, by="ann", verified=True)
        assert (made.labels[0].change, made.new_classes) == ("new", [])
        assert client.label(1, image=picture(9)).labels[0].change == "new"
        assert client.label("yew", feature=np.ones(4)).new_classes == ["yew"]
        body = LabelBody.model_validate({"answer": second, "class": "oak"})
        assert [one.change for one in client.labels([body, body]).labels] == ["new", "same"]
        assert [one.cls for one in client.examples()] == ["oak", "yew", "elm", "elm"]
        assert {one.name: one.examples for one in client.classes().classes if one.examples} == {
            "oak": 1, "elm": 2, "yew": 1,
        }  # fmt: skip
        assert [one.by for one in client.examples(verified=True)] == ["ann"]
        assert client.examples(cls="yew", since=None)[0].id == client.example(client.examples(cls="yew")[0].id).id
        assert client.erase(first).examples == [made.labels[0].example]
        assert client.erase_example(client.examples(cls="yew")[0].id).answer is None
        assert len(client.examples()) == 2
        with pytest.raises(ServerError, match="it was erased") as refusal:
            client.erase(first)
        assert refusal.value.status == 404


def test_the_same_for_asyncio(serve: Serve) -> None:
    """Awaited."""

    async def walk(url: str) -> list[str]:
        async with AsyncClient(url) as client:
            (one,) = (await client.predict(picture(), ref="mine")).predictions
            assert one.id is not None
            made = await client.label("elm", answer=one.id)
            assert (await client.erase(one.id)).examples == [made.labels[0].example]
            await client.label("oak", image=picture())
            return [example.cls for example in await client.examples()]

    with serve(remember=10) as server:
        assert asyncio.run(walk(str(server.base_url))) == ["oak"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "a label takes one of answer, image and feature"),
        ({"answer": "a", "feature": [1, 2]}, "a label takes one of answer, image and feature"),
        ({"image": "nowhere.png"}, "nowhere.png"),
        ({"feature": [[1, 2], [3]]}, "feature"),
        ({"answer": "a", "by": "a\nb"}, "a label: by: has a control character"),
    ],
)
def test_what_cannot_be_labelled_is_named_before_anything_is_sent(given: dict[str, Any], words: str) -> None:
    """No server is there."""
    with Client("http://127.0.0.1:9") as client, pytest.raises(InputError, match=words):
        client.label("oak", **given)
