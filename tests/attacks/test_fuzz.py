"""Requests that nobody thought of, drawn from our own OpenAPI, valid and not: no 5xx, nothing that is not documented.

Bounded: `EXAMPLES` requests an operation, the same ones each time; `FEW` where the server starts a child for each.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from patience import PATIENCE
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method
from server_process import Server, serving
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.prediction.upload import NPY, SAFETENSORS
from breadcrumbs.serving.http.routes.examples import TYPES
from breadcrumbs.serving.settings import Settings

EXAMPLES, FEW = 25, 5
EXCLUDED = [positive_data_acceptance, unsupported_method]
"""An image or a snapshot is not just any bytes, which is all that a schema can say; and /v1/heads/rollback is also a
/v1/heads/{version} whose version is no number. Every other check of schemathesis is made."""


@pytest.fixture(scope="module")
def fuzzed(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes refits and runs none, which would take the time of thousands of children."""
    flags = (
        "--max-body-bytes",
        "100000",
        "--max-snapshot-bytes",
        "100000",
        "--refit",
        "elsewhere",
        "--access-log",
        "none",
    )
    with serving(tiny_bundle, tmp_path_factory.mktemp("fuzzed"), *flags) as one:
        yield one


FILES = [NPY, SAFETENSORS, *TYPES.values()]
schemathesis.serializer.alias(FILES, "application/octet-stream")  # else it says that it cannot send them
schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


IMPORT = {"path": "/v1/examples", "method": "POST"}


def drawn(count: int) -> settings:
    """Requests that are drawn, the same ones each time."""
    return settings(
        max_examples=count, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# A parameter of pytest's own: without one, all operations have one id, and of tests with one id xdist runs one.
@pytest.mark.parametrize("excluded", [EXCLUDED], ids=["documented"])
@schema.exclude(**IMPORT).parametrize()
@drawn(EXAMPLES)
def test_every_operation_answers_as_documented(case: schemathesis.Case, fuzzed: Server, excluded: list[Any]) -> None:
    """Positive and negative data, odd headers, missing parts: status, content type, headers, schema."""
    check(case, fuzzed, excluded)


@pytest.mark.parametrize("excluded", [EXCLUDED], ids=["documented"])
@schema.include(**IMPORT).parametrize()
@drawn(FEW)
def test_an_import_answers_as_documented(case: schemathesis.Case, fuzzed: Server, excluded: list[Any]) -> None:
    """The same of an operation that is answered by a child."""
    check(case, fuzzed, excluded)


def check(case: schemathesis.Case, fuzzed: Server, excluded: list[Any]) -> None:
    """Ask, and compare with what is documented."""
    answer = case.call(base_url=str(fuzzed.client.base_url), timeout=PATIENCE)
    case.validate_response(answer, excluded_checks=excluded)


def test_after_all_that_the_server_answers(fuzzed: Server) -> None:
    """Rightly, with the first head, and it is ready."""
    answer = fuzzed.client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"})

    assert (answer.status_code, answer.json()["head"]["version"]) == (200, 1)
    assert fuzzed.client.get("/readyz").status_code == 200
