"""Where a refit is solved: what is chosen, what is refused, and that on a GPU everything lies there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended import GPU, PretendedGpu, on_gpu
from problems import problem

from breadcrumbs.models import bundle as bundles
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.solver.rows import CHUNK, CHUNK_GPU, rows_at_once, whole
from breadcrumbs.training.solver.solver import solve, solve_stream

CUDA = torch.cuda.is_available()
MANY = devices.WORTH // 100  # elements that pay for a GPU with 100 classes


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """A GPU with 8 GiB free, as far as torch says: its questions about a GPU need a driver."""
    monkeypatch.setattr(devices, "_defect", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**33, 2**34))  # free, in all
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with PretendedGpu() as mode:
        yield mode


@pytest.mark.skipif(CUDA, reason="CUDA works here")
def test_without_a_gpu_cuda_is_refused_and_auto_takes_the_cpu() -> None:
    """The refusal says why, before anything is read."""
    with pytest.raises(
        RefitError, match=r"device cuda was asked for, but torch cannot use it: \w.*; device cpu solves"
    ):
        devices.choose("cuda", 1, 1)

    assert devices.choose("auto", MANY, 100) == devices.choose("cpu", MANY, 100) == torch.device("cpu")


def test_auto_takes_a_gpu_that_pays_and_has_room(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems stay on the CPU, large ones too where a server has filled the GPU; `cuda` is taken at its word."""
    assert devices.choose("auto", MANY, 100) == devices.choose("cuda", 1, 1) == GPU
    assert devices.choose("auto", MANY - 1, 100).type == devices.choose("cpu", MANY, 100).type == "cpu"
    assert devices.fits(GPU, 2**32)
    assert not devices.fits(GPU, 2**32 + 1)
    assert devices.fits(devices.CPU, 2**40)

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (devices.ROOM - 1, 2**34))

    assert devices.choose("auto", MANY, 100).type == "cpu"
    assert devices.choose("cuda", MANY, 100) == GPU


def test_a_full_gpu_is_told_with_the_way_out() -> None:
    """As the refit's error, not as a bug."""
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    with (
        pytest.raises(RefitError, match=r"no room for this refit; device cpu solves without it: CUDA out.* 2 GiB$"),
        devices.full_is_told(),
    ):
        raise full


def test_with_many_classes_a_gpu_sees_fewer_rows_at_once(gpu: PretendedGpu) -> None:
    """So that the logits do not fill it."""
    there, here = torch.zeros(1, 1, device="cuda"), torch.zeros(1, 1)

    assert [rows_at_once(there, classes) for classes in (10, 4096, 10**6)] == [CHUNK_GPU, 8192, CHUNK]
    assert rows_at_once(here, 10) == CHUNK


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_on_a_gpu_every_tensor_of_the_solver_on_gpu(gpu: PretendedGpu, half: bool, missing: bool) -> None:
    """In float32 and bf16, with a warm start from the CPU, and with a class that has no rows; the same solution."""
    features, labels, weights = problem(0, rows=6000)
    classes = 5 if missing else 4
    start = [(torch.zeros(classes, 8), torch.zeros(classes))]
    rows = [part.to(GPU) for part in (features, labels, weights)]

    found = solve_stream(whole(*rows), classes, 1e-3, half=half, starts=start)
    before = gpu.calls
    expected = solve_stream(whole(features, labels, weights), classes, 1e-3, half=half, starts=start)

    assert gpu.calls == before > 1000
    assert on_gpu(found.weight)
    assert on_gpu(found.bias)
    assert found.converged
    assert found.objective == pytest.approx(expected.objective, rel=1e-3)  # chunks are larger there


def test_mixing_devices_fails_here_as_it_does_with_a_gpu(gpu: PretendedGpu) -> None:
    """Else the tests above would show nothing."""
    features, labels, weights = problem(0)

    with pytest.raises(RuntimeError, match="tensors on cuda and, of shape"):
        solve(features.to(GPU), labels, weights.to(GPU), 4, 1e-3)
    with pytest.raises(TypeError, match="numpy"):
        features.to(GPU).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("room", [2**30, 0])
def test_a_whole_refit_on_a_gpu_gives_the_head_that_the_cpu_gives(
    run: Path, gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Rows on the GPU or streamed to it, certificate and baselines too; the report says where it was solved."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (room, 2**34))
    bundle = bundles.read(run / "bundle")

    there = refit(bundle, bundle.head(), [], None, RefitSpec(), device="cuda").complete()
    calls = gpu.calls
    here = refit(bundle, bundle.head(), [], None, RefitSpec(), device="cpu").complete()

    assert gpu.calls == calls > 1000
    assert (there.report.solver.device, here.report.solver.device) == ("cuda", "cpu")
    assert np.allclose(there.head.weight, here.head.weight, atol=2e-3)  # few rows in memory are solved in their span
    assert (there.head.digest == here.head.digest) == (room > 0)
    assert there.report.certificate == here.report.certificate


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="CUDA cannot be used here")
@pytest.mark.parametrize("rows", [6000, 200_000])
def test_a_real_gpu_finds_the_same_optimum(rows: int) -> None:
    """To within the gap that both prove."""
    data = problem(1, rows=rows)

    there, here = (solve(*(part.to(where) for part in data), 4, 1e-3) for where in (GPU, torch.device("cpu")))

    assert there.weight.is_cuda
    assert there.converged
    assert there.objective == pytest.approx(here.objective, rel=2e-3)
