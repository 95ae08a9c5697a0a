"""A refit's report: its schema, and what does not pass it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from breadcrumbs.models.refit_report import STORED, Gate, RefitReport

SCHEMA = Path(__file__).parents[2] / "docs" / "refit-report.schema.json"


def test_the_documented_schema_is_the_codes() -> None:
    """`docs/refit-report.schema.json` is what pydantic makes of the model; the failure prints how to write it anew."""
    found = json.loads(SCHEMA.read_text())

    how = "json.dumps(RefitReport.model_json_schema(), indent=1) + '\\n'"
    assert found == RefitReport.model_json_schema(), f"write {SCHEMA} anew: {how}"


def test_a_report_of_another_version_or_with_less_in_it_is_none() -> None:
    """Each missing part is named."""
    with pytest.raises(ValidationError) as refusal:
        RefitReport.model_validate({"format": "breadcrumbs.refit/3"})

    named = {error["loc"][0] for error in refusal.value.errors()}
    later = {"migration", "judged_examples", "class_rows", "calibration", "rejection", "confused", "unlike"}
    assert named == set(RefitReport.model_fields) - later


def older(passed: object) -> dict[str, object]:
    """A report of version 1: its gate said `passed`, and its parts were others."""
    new = json.loads((SCHEMA.parents[1] / "tests/serving/refit_report.json").read_text())
    rest = {name: value for name, value in new.items() if name not in {"members", "transfer", "new_classes", "notes"}}
    gate = {"passed": passed, "reasons": ["worse"]}
    return {**rest, "format": "breadcrumbs.refit/1", "chosen": {"l2": 0.01, "prior_offset": 0.25}, "gate": gate}


@pytest.mark.parametrize(("passed", "answer"), [(True, "yes"), (False, "no")])
def test_a_stored_report_of_version_1_is_read(passed: bool, answer: str) -> None:
    """A store keeps it; what it said of the gate is understood. What a refit leaves must be of version 2."""
    old = older(passed)

    report = STORED.validate_python(old)

    assert (report.format, report.gate.answer, report.gate.reasons) == (old["format"], answer, ["worse"])
    with pytest.raises(ValidationError):
        RefitReport.model_validate(old)


def test_a_stored_report_of_no_version_is_none() -> None:
    """Neither a later one, nor a damaged one of version 1 or 2."""
    new = json.loads((SCHEMA.parents[1] / "tests/serving/refit_report.json").read_text())

    assert STORED.validate_python(new).format == "breadcrumbs.refit/2"
    for damaged in (new | {"format": "breadcrumbs.refit/3"}, new | {"members": None}, older("perhaps")):
        with pytest.raises(ValidationError):
            STORED.validate_python(damaged)


@pytest.mark.parametrize(
    "gate",
    [{"passed": "perhaps", "reasons": []}, {"passed": True, "answer": "yes", "reasons": []}, {"answer": "maybe"}],
)
def test_a_gate_of_neither_version_is_none(gate: dict[str, object]) -> None:
    """Both names at once, or another answer."""
    with pytest.raises(ValidationError):
        Gate.model_validate({"reasons": []} | gate)
