"""A refit's report: its schema, and what does not pass it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from breadcrumbs.models.refit_report import Gate, RefitReport

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
    assert named == set(RefitReport.model_fields) - {"new_classes"}  # which version 1 had not


@pytest.mark.parametrize(("passed", "answer"), [(True, "yes"), (False, "no")])
def test_a_report_of_version_1_is_read(passed: bool, answer: str) -> None:
    """Its gate said `passed`, and it had no new classes apart."""
    old = json.loads((SCHEMA.parents[1] / "tests/serving/refit_report.json").read_text())
    old["gate"]["passed"] = passed

    report = RefitReport.model_validate(old)

    assert old["format"] == report.format == "breadcrumbs.refit/1"
    assert (report.gate.answer, report.gate.reasons) == (answer, old["gate"]["reasons"])
    assert report.new_classes == []


@pytest.mark.parametrize(
    "gate",
    [{"passed": "perhaps", "reasons": []}, {"passed": True, "answer": "yes", "reasons": []}, {"answer": "maybe"}],
)
def test_a_gate_of_neither_version_is_none(gate: dict[str, object]) -> None:
    """Both names at once, or another answer."""
    with pytest.raises(ValidationError):
        Gate.model_validate({"reasons": []} | gate)
