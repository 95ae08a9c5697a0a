"""The simulation of many machines: nothing is lost or counted twice, and one machine does what was measured."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import measured  # noqa: E402 - it lies beside the benchmarks
import scale_sim  # noqa: E402
import scale_store  # noqa: E402
from scale_sim import Machine, Plan, simulate  # noqa: E402

from breadcrumbs.serving import assembly  # noqa: E402
from breadcrumbs.serving.predict import batcher  # noqa: E402
from breadcrumbs.serving.settings import Settings  # noqa: E402

MODELS = ("resnet18", "resnet10t")
SHARE = 0.1
"""Within which the simulated machine reaches the measured rate, whatever the number of users."""
CONSTANT = Machine(1, 1.0, ((1, 1.0), (32, 32.0)), 1.0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("users", [1, 16, 64])
def test_one_machine_reaches_what_was_measured(model: str, users: int) -> None:
    """Under as many users as were measured: images a second, and the median time."""
    row = measured.served(model)
    found = scale_sim.row(scale_sim.cpu(row), Plan(1, users=users, seconds=20))

    assert found["answered"] == pytest.approx(row.rates[users], rel=SHARE)
    assert found["p50_ms"] == pytest.approx(row.p50[users], rel=SHARE)


@pytest.mark.parametrize("model", MODELS)
def test_more_than_a_machine_reaches_is_refused(model: str) -> None:
    """It goes on at the measured rate, and the rest is refused at once."""
    row = measured.served(model)
    found = scale_sim.row(scale_sim.cpu(row), Plan(1, load=1.5, seconds=120))  # the queue has to fill first

    assert found["answered"] == pytest.approx(max(row.rates.values()), rel=SHARE)
    assert found["refused"] == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("balancer", ["random", "least"])
@pytest.mark.parametrize("load", [0.3, 0.9, 1.5])
@pytest.mark.parametrize("machines", [1, 7])
def test_every_request_ends_once(balancer: str, load: float, machines: int) -> None:
    """Answered, refused or given up; workers are never busier than all the time; as many times as answers."""
    machine = scale_sim.cpu(measured.served("resnet18"))
    found = simulate(machine, Plan(machines, load, balancer=balancer, seconds=10))

    assert found.sent == found.answered + found.refused + found.late > 100
    assert 0 < found.busy <= machines * machine.workers * 10 * (1 + 1e-9)
    assert len(found.times) == found.answered
    assert min(found.times) >= machine.lone * (1 - scale_sim.UNEVEN)
    assert found.stale <= found.answered + found.late


def test_what_waits_too_long_is_given_up() -> None:
    """A machine of one image a second, asked for five: nobody is answered after the deadline."""
    found = simulate(CONSTANT, Plan(1, load=5.0, seconds=60))

    assert found.late > found.answered > 0
    assert max(found.times) <= scale_sim.DEADLINE
    assert found.sent == found.answered + found.refused + found.late


@pytest.mark.parametrize("balancer", ["random", "least"])
def test_more_load_takes_longer(balancer: str) -> None:
    """The 99th percentile and the share of time that is worked rise with the load."""
    machine = scale_sim.cpu(measured.served("resnet18"))
    rows = [scale_sim.row(machine, Plan(4, load, balancer=balancer, seconds=60)) for load in (0.2, 0.5, 0.8, 0.95)]

    for name in ("p99_ms", "utilisation"):
        values = [float(row[name]) for row in rows]
        assert values == sorted(values)
        assert values[0] < values[-1] <= (1 if name == "utilisation" else math.inf)


def test_the_fewest_under_way_is_the_better_choice() -> None:
    """Of ten machines at nine tenths of what they reach."""
    machine = scale_sim.cpu(measured.served("resnet18"))
    by = {name: scale_sim.row(machine, Plan(10, 0.9, balancer=name, seconds=30)) for name in ("random", "least")}

    assert float(by["least"]["p99_ms"]) < float(by["random"]["p99_ms"])


def test_a_queue_of_one_worker_is_the_textbooks() -> None:
    """One worker, one image at a time, requests at random: the mean wait of M/D/1, ρ / (2 (1 − ρ)) services."""
    one = Machine(1, 0.01, ((1, 0.01), (32, 0.32)), 100.0)
    load, found = 0.6, []
    for seed in range(5):
        outcome = simulate(one, Plan(1, load, seconds=400, seed=seed))
        found.append(sum(outcome.times) / len(outcome.times))
    wait = sum(found) / len(found) - 0.01

    # Batches of twos and threes keep their first image until the last is done, so the wait is at least the textbook's.
    assert 1.0 <= wait / (0.01 * load / (2 * (1 - load))) <= 2.0


@pytest.mark.parametrize(("follow", "every"), [(0.5, 5.0), (2.0, 5.0), (0.5, 0.0)])
def test_stale_answers_are_half_a_look_after_each_swap(follow: float, every: float) -> None:
    """A head is new to a machine half a look late, at the mean."""
    machine = scale_sim.cpu(measured.served("resnet18"))
    found = scale_sim.row(machine, Plan(50, 0.5, seconds=20, follow=follow, swap_every=every))

    assert found["stale"] == pytest.approx(0.75 * follow / 2 / every if every else 0, rel=0.25)  # three swaps in 20 s


def test_the_simulated_server_has_the_servers_defaults() -> None:
    """Queue, deadline, batch, its longest and its few, and the seconds between two looks."""
    fields = ("queue", "deadline", "max_batch", "follow")
    ours = (scale_sim.QUEUE, scale_sim.DEADLINE, scale_sim.MAX_BATCH, scale_sim.FOLLOW)

    assert ours == tuple(Settings.model_fields[name].default for name in fields)
    assert (scale_sim.LONGEST, scale_sim.FEW) == (assembly.LONGEST, batcher.FEW)


def test_numbers_come_from_the_page(tmp_path: Path) -> None:
    """Another number on the page is another number here; a row that is gone is told."""
    page = measured.RESULTS.read_text()
    row = measured.served("resnet18")
    shown = f"| ours | {row.rates[1]:.0f} ("
    assert page.count(shown) == 1
    (tmp_path / "results.md").write_text(page.replace(shown, "| ours | 1,234 ("))

    assert measured.served("resnet18", page=tmp_path / "results.md").rates[1] == 1234
    with pytest.raises(measured.RowMissing, match="no row 'theirs'"):
        measured.served("resnet18", "theirs")
    with pytest.raises(measured.RowMissing, match="no table of resnet99"):
        measured.served("resnet99")


def test_measured_refits_come_out_as_they_were_measured() -> None:
    """Within the spread of the two; ten times the rows take ten times as long."""
    for one in measured.solved():
        low, high = scale_store.refit_seconds(one.rows, one.classes, one.dimensions)
        assert low <= one.seconds * (1 + 1e-9)
        assert one.seconds <= high * (1 + 1e-9)
    low, high = scale_store.refit_seconds(10**6, 1000, 512)
    assert scale_store.refit_seconds(10**7, 1000, 512) == pytest.approx((10 * low, 10 * high))


def test_a_store_is_as_large_as_its_snapshots() -> None:
    """Features, labels and ids, in objects that the server takes, two a snapshot."""
    prices = scale_store.Prices(0.02, 0.005, 0.0004)
    found = scale_store.layout(10**9, 512, "f16", prices)

    assert found["TB"] == pytest.approx(10**9 * (512 * 2 + 16) / 1e12, abs=0.01)
    assert found["objects"] == 2 * math.ceil(10**9 * 1040 / Settings.model_fields["max_snapshot_bytes"].default)
    assert found["usd_a_month"] == round(1040 * 0.02)


@pytest.mark.parametrize("program", ["scale_sim", "scale_store"])
def test_the_programs_print_json(program: str) -> None:
    """And a GPU only with numbers of the reader's own."""
    more = ["--machines", "2", "--seconds", "2", "--gpu-rate", "1000"] if program == "scale_sim" else []
    line = [sys.executable, str(ROOT / f"benchmarks/{program}.py"), "--json", *more]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)

    found = json.loads(done.stdout)
    assert found
    if program == "scale_sim":
        assert [name.split(",")[0] for name in found["rows"]] == ["CPU", "GPU"]
        assert {row["machines"] for rows in found["rows"].values() for row in rows} == {2}


def test_the_page_shows_what_the_programs_print(capsys: pytest.CaptureFixture[str]) -> None:
    """Every row of the store's tables, and of the simulation those of 1 and 10 machines; else print them again."""
    page = (ROOT / "docs/scale.md").read_text()
    scale_store.main([])
    scale_sim.main(["--machines", "1", "10"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "---" not in line]

    assert len(rows) > 30
    assert [row for row in rows if row not in page] == []
