"""Which numbers two heads are compared by: those from the same rows, if there are any."""

import httpx
import pytest

from breadcrumbs.commands.heads import compared
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.state.heads import HeadRecord, Lineage


def record(version: int, *, parent: int | None = None, holdout: str | None = None) -> HeadRecord:
    """A head whose metrics are its number."""
    refit = None if parent is None else f"refit-{version}"
    lineage = Lineage(parent=parent, holdout=holdout, refit=refit)
    metrics = {"all": float(version)}
    return HeadRecord(
        version=version, digest="d", backbone="b", feature_dim=2, classes=2, created="", lineage=lineage,
        metrics=metrics,
    )  # fmt: skip


def no_such_refit(_: httpx.Request) -> httpx.Response:
    """What a server answers after `breadcrumbs store gc` removed a refit."""
    return httpx.Response(404, json={"error": {"type": "not_found", "message": "there is no such refit"}})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (record(3, holdout="h"), record(4, holdout="h"), (3.0, 4.0)),
        (record(3, holdout="h"), record(4, parent=3, holdout="h"), (3.0, 4.0)),
        (record(3, holdout="g"), record(4, holdout="h"), None),
        (record(1), record(2, parent=1), None),
    ],
)
def test_without_a_report_only_one_holdout_makes_heads_comparable(
    first: HeadRecord, second: HeadRecord, expected: tuple[float, float] | None
) -> None:
    """Also where the report has been removed since."""
    with Client("http://server", transport=httpx.MockTransport(no_such_refit)) as client:
        found = compared(client, first, second)

    assert (found and tuple(one["all"] for one in found)) == expected
