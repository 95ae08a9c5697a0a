"""Checkpoints: whole or absent, and never code."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from breadcrumbs.models.errors import FormatError
from breadcrumbs.training.run.state import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
STATE: dict[str, Any] = {
    "config": "{}", "epoch": 3, "network": {"w": torch.arange(6.0).reshape(2, 3)},
    "optimizers": [{"momentum": [torch.ones(2), None]}], "trail": {"next": torch.tensor([1, 2])},
}  # fmt: skip


class Payload:
    """A pickle that creates a file when it is loaded by anybody who trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_round_trip(tmp_path: Path) -> None:
    """What is saved comes back: numbers, text, nested tensors."""
    save_checkpoint(tmp_path / "c.pt", STATE)

    found = load_checkpoint(tmp_path / "c.pt", CPU)

    assert (found["config"], found["epoch"]) == ("{}", 3)
    assert torch.equal(found["network"]["w"], STATE["network"]["w"])
    assert found["optimizers"][0]["momentum"][1] is None
    assert found["trail"]["next"].tolist() == [1, 2]


def test_there_is_none(tmp_path: Path) -> None:
    """A checkpoint that is not there is told with what to do."""
    with pytest.raises(FormatError, match=r"no checkpoint at .*c\.pt; `breadcrumbs train --out .*` writes"):
        load_checkpoint(tmp_path / "c.pt", CPU)


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    """A pickle that would run something is refused in every form that torch reads, and nothing runs."""
    path, trace = tmp_path / "c.pt", tmp_path / "trace"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"epoch": Payload(trace)}))
    else:
        torch.save({"epoch": Payload(trace)}, path, _use_new_zipfile_serialization=form == "torch")

    with pytest.raises(FormatError, match=r"c\.pt is damaged"):
        load_checkpoint(path, CPU)

    assert not trace.exists()
    if form == "torch":  # the payload is sound: who trusts it, runs it
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    """Anything else at its place is a FormatError with the path."""
    (tmp_path / "c.pt").write_bytes(content)

    with pytest.raises(FormatError, match=r"c\.pt is damaged"):
        load_checkpoint(tmp_path / "c.pt", CPU)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_checkpoint_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    """A file that ends early is a FormatError with the path."""
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])

    with pytest.raises(FormatError, match=r"c\.pt is damaged"):
        load_checkpoint(path, CPU)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    """A zip file that torch did not write is a FormatError with the path."""
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")

    with pytest.raises(FormatError, match=r"c\.pt is damaged"):
        load_checkpoint(tmp_path / "c.pt", CPU)


def test_a_state_that_cannot_be_saved_leaves_the_old_one(tmp_path: Path) -> None:
    """When saving fails, the checkpoint before it is still there, alone."""
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)

    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, {"epoch": lambda: 4})

    assert load_checkpoint(path, CPU)["epoch"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
