"""What a refit says off a terminal."""

import pytest

from breadcrumbs.training.terminal.refit_events import Lines


def step(second: int, **more: object) -> dict[str, object]:
    """What the solver tells in a second."""
    return {"event": "progress", "l2": 0.001, "iteration": second, "gradient_norm": 0.5, "objective": 1.0, **more}


@pytest.mark.parametrize("gap", [None, 0.02])
def test_the_solver_says_where_it_is_every_ten_seconds(capsys: pytest.CaptureFixture[str], gap: float | None) -> None:
    """One line with stage, λ, pass and, where it is known, gap; at the next stage, where it ended."""
    now = 0.0
    lines = Lines(lambda: now)
    lines({"event": "stage", "stage": "solve"})
    for second in range(1, 25):
        now = float(second)
        lines(step(second, **({} if gap is None else {"gap": gap})))
    lines({"event": "stage", "stage": "evaluate"})
    lines({"event": "judged"})

    more = "" if gap is None else ", gap 2.0e-02"
    assert capsys.readouterr().err.splitlines() == [
        "solve",
        f"  solve: λ 0.001, iteration 10: gradient norm 5.00e-01{more}",
        f"  solve: λ 0.001, iteration 20: gradient norm 5.00e-01{more}",
        f"  λ 0.001, iteration 24: gradient norm 5.00e-01{more}",
        "evaluate",
    ]


@pytest.mark.parametrize(("event", "note"), [("live", "activated: the gate says yes"), ("stored", "not activated: no")])
def test_what_became_of_the_head_is_said_before_the_report(
    capsys: pytest.CaptureFixture[str], event: str, note: str
) -> None:
    """On a server the head may be live while the report is being made."""
    lines = Lines(lambda: 0.0)
    lines({"event": event, "head": 7, "activated": event == "live", "note": note})

    assert capsys.readouterr().err == f"head 7 is {event} ({note}); the report follows\n"
