"""What a terminal must not get: refused in class names wherever they come in, and escaped where text is printed."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_head

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import printable
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots import formats
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError
from breadcrumbs.training.data import class_names

BIDI = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
BAD = st.sampled_from(BIDI) | st.characters(categories=["Cc", "Cs", "Zl", "Zp"])
GOOD = ["銀杏", "chêne vert", "a/b", "<b>", "نخلة", "👩‍🌾", "x" * 60, "models", "a\u00a0b", "אלון"]


def named(bad: str) -> str:
    """A class name with something in it."""
    return f"oak{bad}[31mlive"


@given(text=st.text(st.characters() | BAD))
def test_escaped_text_is_one_line_without_what_is_unfit(text: str) -> None:
    """Whatever comes; and what is fit stays as it is."""
    shown = printable.escaped(text)

    assert printable.defect(shown) is None
    assert len(shown.splitlines()) <= 1
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & set(BIDI)
    shown.encode()
    if printable.defect(text) is None:
        assert shown == text


@given(bad=BAD)
def test_a_head_or_a_snapshot_with_such_a_class_is_refused(bad: str) -> None:
    """In memory, so before anything is written; training's own door says the same before it trains."""
    head, name = tiny_head(), named(bad)
    classes = (name, *head.classes[1:])
    with pytest.raises(FormatError, match=r"class 'oak.* (expected printable|half a surr)") as of_head:
        LinearHead(head.weight, head.bias, classes)
    features, labels = np.ones((1, 2), np.float32), np.zeros(1, np.int64)
    with pytest.raises(SnapshotError) as of_snapshot:
        snapshots.check(Snapshot(features, labels, classes, "0" * 64, 1))

    assert class_names.fault(name)
    for refusal in (of_head, of_snapshot):
        assert printable.defect(str(refusal.value)) is None


@pytest.mark.parametrize("name", GOOD)
def test_names_of_any_script_are_fit(name: str) -> None:
    """Right-to-left letters and joined emoji are text."""
    assert printable.defect(name) is None
    assert class_names.fault(name) is None


@pytest.mark.parametrize("bad", ["\x1b", "\n", "\r", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"])
def test_files_with_such_a_class_are_refused(tiny_bundle: Bundle, tmp_path: Path, bad: str) -> None:
    """A bundle and a snapshot that another program wrote; the refusal can itself be printed."""
    manifest = json.loads((tiny_bundle.folder / "manifest.json").read_text())
    manifest["classes"][0] = named(bad)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"class 'oak.*|Invalid JSON") as of_bundle:
        bundles.read(tmp_path)
    arrays = {"features": np.ones((1, 2), np.float32), "labels": np.zeros(1, np.int64)}
    np.savez(tmp_path / "one.npz", **arrays, classes=np.array([named(bad)]), backbone="0" * 64, epoch=1)
    with pytest.raises(SnapshotError, match=r"class 'oak.*|no Unicode") as of_snapshot:
        formats.open_snapshot(tmp_path / "one.npz")

    for refusal in (of_bundle, of_snapshot):
        assert printable.defect(str(refusal.value)) is None


def test_an_architecture_is_printable_too(tiny_bundle: Bundle) -> None:
    """It is shown beside the name."""
    with pytest.raises(ValueError, match=r"architecture .* has a control character, U\+001B"):
        bundles.Manifest.model_validate(tiny_bundle.manifest.model_dump() | {"architecture": "resnet\x1b[2J"})


def test_a_snapshot_is_checked_before_it_is_written() -> None:
    """So nothing half-written stays."""
    whole = Snapshot(np.ones((1, 2), np.float32), np.zeros(1, np.int64), ("oak",), "0" * 64, 1)
    with pytest.raises(SnapshotError, match="expected printable text"):
        snapshots.to_bytes(replace(whole, classes=("oak\x1b]0;x\x07",)))
