"""The examination finds what is wrong, says what to do, and leaves nothing behind."""

import asyncio
import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from running import make_settings
from tiny import picture, png, tiny_head, tiny_snapshot

from breadcrumbs.classify.by_bundle import predict
from breadcrumbs.doctor import examine
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import keys
from breadcrumbs.surroundings import Finding, clock, links, machine, proxies

pytestmark = pytest.mark.slow  # some looks start a program that loads torch
OFF: dict[str, object] = {"refit": "off"}
"""A server without refits: nobody has to start a program that loads torch. Each look with refits takes seconds."""
NO_GPU = pytest.mark.skipif(devices.has_driver(), reason="there is a GPU here")


def found(settings: Settings) -> dict[str, Finding]:
    """Every finding, by its name."""
    return {finding.name: finding for finding in examine(settings)}


def test_a_sound_installation_has_nothing_bad(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Each part is looked at, and the store is as empty as before."""
    findings = found(make_settings(tiny_bundle, tmp_path / "store"))

    names = "environment version machine engine GPU refits proxies bundle precision store clock keys"
    assert set(findings) == set(names.split())
    assert {finding.state for finding in findings.values()} <= {"good", "note"}
    assert findings["refits"].text.startswith("torch ")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("bundle", OFF | {"bundle": Path("nowhere")}, "no bundle at nowhere"),
        ("bundle", OFF | {"precision": "half"}, "has no backbone-half.onnx"),
        ("store", OFF | {"store": "/proc/store"}, "/proc/store: No such file"),
        ("store", OFF | {"store": "ftp://x"}, "expected a folder"),
        ("bundle", OFF | {"precision": "int8"}, "has no int8 backbone"),
        ("machine", OFF | {"decode_memory": 2**60}, "decode_memory is 1073741824.0 GiB, more than there is"),
        ("machine", OFF | {"refit_memory": 2**60}, "refit_memory is 1073741824.0 GiB, more than there is"),
        ("keys", OFF | {"keys": Path("nowhere.json")}, "nowhere.json: No such file"),
        pytest.param("GPU", OFF | {"device": "cuda"}, "CUDA cannot be used: no NVIDIA driver", marks=NO_GPU),
        pytest.param("refits", {"refit_device": "cuda"}, "sees no GPU, and refit_device is cuda", marks=NO_GPU),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(
    tiny_bundle: Bundle, tmp_path: Path, name: str, changed: dict[str, object], words: str
) -> None:
    """And only that."""
    findings = found(make_settings(tiny_bundle, tmp_path / "store").model_copy(update=changed))

    assert words in findings[name].text
    assert findings[name].remedy
    assert [finding.name for finding in findings.values() if finding.state == "bad"] == [name]


def test_the_hold_out_of_the_bundle_is_told(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """How many rows and classes it has, or that there is none; one that does not fit is bad."""
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in tiny_bundle.manifest.files}
    held = tiny_snapshot(tiny_bundle.backbone_digest).take(np.array([0, 1, 3, 4]))
    with_one = bundles.write(
        tmp_path / "with", tiny_bundle.manifest, files | {"holdout.safetensors": snapshots.to_bytes(held)}
    )

    assert "hold-out of 4 rows in 2 classes" in found(make_settings(with_one, tmp_path / "a", **OFF))["bundle"].text
    assert "no hold-out" in found(make_settings(tiny_bundle, tmp_path / "b", **OFF))["bundle"].text


def test_a_file_without_keys_is_named_with_its_remedy(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Nobody could come in."""
    (tmp_path / "keys.json").write_text("{}")
    finding = found(make_settings(tiny_bundle, tmp_path / "store", keys=tmp_path / "keys.json", **OFF))["keys"]

    assert (finding.state, "nobody can come in" in finding.text) == ("bad", True)
    assert "`breadcrumbs keys add NAME" in finding.remedy


def test_a_variable_that_is_no_setting_is_noted(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the one that may be meant."""
    monkeypatch.setenv("BREADCRUMBS_MAX_BACH", "8")
    finding = found(make_settings(tiny_bundle, tmp_path / "store", **OFF))["environment"]

    assert finding.state == "note"
    assert finding.text == "BREADCRUMBS_MAX_BACH is no setting; did you mean BREADCRUMBS_MAX_BATCH?"


@pytest.mark.parametrize(
    ("variables", "words", "remedy"),
    [
        ({}, "none in the environment", ""),
        ({"HTTP_PROXY": "http://me:secret@proxy.lab:3128"}, "HTTP_PROXY = proxy.lab: our commands", "NO_PROXY="),
        (
            {"all_proxy": "http://proxy.lab:3128", "NO_PROXY": "localhost,.lab"},
            "ALL_PROXY = proxy.lab: our",
            "NO_PROXY=",
        ),
        ({"https_proxy": "http://a:1", "no_proxy": "localhost,127.0.0.1"}, "HTTPS_PROXY = a; not for this machine", ""),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "*"}, "HTTP_PROXY = a; not for this machine", ""),
    ],
)
def test_proxies_are_told_without_their_passwords(
    variables: dict[str, str], words: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whether a server on this machine would be asked through them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    finding = proxies()

    assert words in finding.text
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (finding.state == "note")
    assert "secret" not in str(finding)


def test_a_clock_that_is_behind_the_store_is_bad(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A minute is not; a folder that cannot be written is another finding."""
    activation = tmp_path / "store" / "activations" / "00000001.json"
    activation.parent.mkdir(parents=True)
    activation.write_text("{}")
    states = []
    for seconds in (0, 30, 3600):
        os.utime(activation, (time.time() + seconds,) * 2)
        states.append(asyncio.run(clock(make_settings(tiny_bundle, tmp_path / "store"))))

    assert [one.state for one in states] == ["good", "good", "bad"]
    assert "the store was written 3" in states[-1].text
    assert "NTP" in states[-1].remedy
    assert (
        asyncio.run(clock(make_settings(tiny_bundle, tmp_path).model_copy(update={"store": "ftp://x"}))).state == "note"
    )


def test_a_file_system_without_hard_links_is_named(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT and some network shares are, of which none is here; nothing is left on it."""

    def refuse(source: object, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)

    (tmp_path / "store").mkdir()
    assert links(tmp_path / "store") == ""
    monkeypatch.setattr(os, "link", refuse)
    finding = found(make_settings(tiny_bundle, tmp_path / "store", **OFF))["store"]

    assert finding.state == "bad"
    assert "without hard links (Operation not permitted)" in finding.text
    assert "ext4" in finding.remedy
    assert list((tmp_path / "store").iterdir()) == []


def test_images_that_are_too_large_for_the_memory_are_noted(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """With what would be enough."""
    few = machine(make_settings(tiny_bundle, tmp_path, decode_memory=80_000_000, max_pixels=20_000_000))

    assert (few.state, "enough for about 10 million pixels; max_pixels is 20000000" in few.text) == ("note", True)
    assert "--decode-memory" in few.remedy
    assert (
        machine(make_settings(tiny_bundle, tmp_path, decode_memory=80_000_000, max_pixels=10_000_000)).state == "good"
    )


def test_int8_that_is_there_and_not_used_is_noted(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Where the CPU computes; with `auto` or int8 it is used."""
    manifest = tiny_bundle.manifest
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in manifest.files}
    both = bundles.write(tmp_path / "both", manifest, files, int8=tiny_bundle)
    state = {
        wish: found(make_settings(both, tmp_path / "store", precision=wish, **OFF))["precision"]
        for wish in ("full", "auto", "int8")
    }

    assert {wish: one.state for wish, one in state.items()} == {"full": "note", "auto": "good", "int8": "good"}
    assert "auto takes it where it is faster" in state["full"].remedy


def test_keys_are_counted(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Not shown."""
    secret = keys.add(tmp_path / "keys.json", "me", ("admin",))
    findings = found(make_settings(tiny_bundle, tmp_path / "store", keys=tmp_path / "keys.json", **OFF))

    assert findings["keys"].text.startswith("1 keys in")
    assert secret not in str(findings)


def test_a_bundle_predicts_without_a_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The classes in order of their probabilities, which sum to one over all classes."""
    image = tmp_path / "tree.png"
    image.write_bytes(png(picture()))
    digest, (found,) = predict(tiny_bundle.folder, [image], 99)
    ranked = found.classes
    values = [one["probability"] for one in ranked]

    assert digest == tiny_bundle.head().digest
    assert {one["class"] for one in ranked} == set(tiny_head().classes)
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)


def test_an_image_that_cannot_be_read_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Among several."""
    tree, text = tmp_path / "tree.png", tmp_path / "notes.txt"
    tree.write_bytes(png(picture()))
    text.write_bytes(b"no image")

    _, (good, bad) = predict(tiny_bundle.folder, [tree, text], 1)

    assert good.error is None
    assert bad.image == text
    assert "not a JPEG, PNG or WebP image" in str(bad.error)
