"""What a refit leaves to tell how well a feature is known: of its own head, and of the rows that it was fitted to."""

from pathlib import Path

import numpy as np
from worlds import World

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import known as knowns
from breadcrumbs.models.known import unit
from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit import files

SPEC = RefitSpec(l2=1e-2, allow_new_classes=True)


def test_head_and_bundle_carry_the_points_of_their_rows(tmp_path: Path) -> None:
    """A class that was added is known then; the bundle is as good as the head; the judged rows are no points."""
    world = World((60, 30, 12), 16, apart=2.0)
    bundle = world.bundle(tmp_path / "bundle")
    new = world.rows(bundle, [3] * 30, 5)
    snapshots.write(tmp_path / "new.safetensors", new)
    there: list[bool] = []

    def hear(event: dict[str, object]) -> None:
        if event["event"] == "judged":
            there.append((tmp_path / "out" / knowns.FILE).exists())

    (tmp_path / "out").mkdir()
    made = files.run(tmp_path / "bundle", None, [tmp_path / "new.safetensors"], None, SPEC, tmp_path / "out", hear)

    head = heads.read(tmp_path / "out" / "head.safetensors")
    found = knowns.read(tmp_path / "out" / knowns.FILE, head.digest, 16)
    packed = bundles.read(tmp_path / "out" / "bundle").known()
    assert found is not None
    assert packed is not None
    assert there == [True]
    fresh, far = world.draw([3] * 50, 77), np.random.default_rng(7).normal(size=(50, 16)).astype(np.float32)
    assert np.mean(found.of(fresh)) > 2 * np.mean(found.of(far))
    assert packed.of(fresh) == found.of(fresh)
    assert made.rejection is not None
    assert made.rejection.rows == made.rows


def test_no_example_is_found_in_what_a_head_carries(tmp_path: Path) -> None:
    """Of what people labelled one by one only the mean of each class is there, as it may be erased while heads stay."""
    world = World((60, 30, 12), 16, apart=2.0)
    bundle = world.bundle(tmp_path / "bundle")
    features = world.draw([0] * 12 + [1] * 12, 9)
    said = labelled.snapshot(
        features, ["class 0"] * 12 + ["class 1"] * 12, [str(place) for place in range(24)], bundle.backbone_digest,
        verified=False,
    )  # fmt: skip
    snapshots.write(tmp_path / "examples.safetensors", said)
    (tmp_path / "out").mkdir()

    files.run(
        tmp_path / "bundle", None, [], None, SPEC, tmp_path / "out", examples=[tmp_path / "examples.safetensors"],
        new_bundle=False,
    )  # fmt: skip

    head = heads.read(tmp_path / "out" / "head.safetensors")
    found = knowns.read(tmp_path / "out" / knowns.FILE, head.digest, 16)
    assert found is not None
    inside = unit(unit(features) @ found.basis)
    assert (inside @ found.points.T).max() < 0.9999
