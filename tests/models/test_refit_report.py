"""A refit's report: its schema, and what does not pass it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from breadcrumbs.models.refit_report import RefitReport

SCHEMA = Path(__file__).parents[2] / "docs" / "refit-report.schema.json"


def test_the_documented_schema_is_the_codes() -> None:
    """`docs/refit-report.schema.json` is what pydantic makes of the model; the failure prints how to write it anew."""
    found = json.loads(SCHEMA.read_text())

    how = "json.dumps(RefitReport.model_json_schema(), indent=1) + '\\n'"
    assert found == RefitReport.model_json_schema(), f"write {SCHEMA} anew: {how}"


def test_a_report_of_another_version_or_with_less_in_it_is_none() -> None:
    """Each missing part is named."""
    with pytest.raises(ValidationError) as refusal:
        RefitReport.model_validate({"format": "breadcrumbs.refit/2"})

    named = {error["loc"][0] for error in refusal.value.errors()}
    assert named == set(RefitReport.model_fields)
