"""What a server is given at start may never end: it is refused in a sentence, and nothing hangs."""

import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from forked import command
from onnx import TensorProto, helper, numpy_helper
from ports import free_port
from tiny import tiny_backbone

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle, BundleError, Manifest
from breadcrumbs.models.files import open_regular, sha256


def endless(trips: int, *, constant: bool) -> bytes:
    """The tiny backbone behind a loop of so many trips; of constants only, or of what comes in."""
    model = onnx.load_from_string(tiny_backbone())
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["before", "nothing"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.float32(0), "nothing")],
    )
    graph = model.graph
    graph.initializer.extend([
        numpy_helper.from_array(np.int64(trips), "trips"), numpy_helper.from_array(np.bool_(True), "yes"),
        numpy_helper.from_array(np.zeros(4, np.float32), "zero"),
    ])  # fmt: skip
    last = graph.node[-1]
    last.output[0] = "inner"
    if constant:
        graph.node.append(helper.make_node("Loop", ["trips", "yes", "zero"], ["looped"], body=body))
        graph.node.append(helper.make_node("Add", ["inner", "looped"], ["feature"]))
    else:
        graph.node.append(helper.make_node("Loop", ["trips", "yes", "inner"], ["feature"], body=body))
    return bytes(model.SerializeToString())


def with_file(bundle: Bundle, folder: Path, name: str, data: bytes) -> Path:
    """A copy of a bundle with another file in it, as its manifest says."""
    files = {one: (bundle.folder / one).read_bytes() for one in bundle.manifest.files} | {name: data}
    manifest = bundle.manifest.model_copy(update={"files": {}})
    bundles.write(folder, Manifest.model_validate(manifest.model_dump()), files)
    return folder


def serve(bundle: Path, store: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Start a server that is expected to end by itself."""
    line = ("serve", "--bundle", str(bundle), "--store", str(store), "--port", str(free_port()), "--device", "cpu")
    return command(*line, *more)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("constant", [True, False])
def test_a_graph_that_never_ends_is_refused(tiny_bundle: Bundle, tmp_path: Path, constant: bool, workers: str) -> None:
    """Whether ONNX Runtime would loop when it loads it or when it runs it, and in how many processes."""
    bundle = with_file(tiny_bundle, tmp_path / "bundle", "backbone.onnx", endless(2**62, constant=constant))
    done = serve(bundle, tmp_path / "store", "--start-timeout", "2", "--workers", workers)

    assert done.returncode == 2, done.stderr
    assert "within 2 s; if " in done.stderr
    assert "--start-timeout" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loop_that_ends_is_served(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The limit is on time, not on what a graph may have in it."""
    bundle = with_file(tiny_bundle, tmp_path / "bundle", "backbone.onnx", endless(3, constant=False))
    done = serve(bundle, tmp_path / "store", "--keys", str(tmp_path / "none"))

    assert "there is no" in done.stderr or "No such file" in done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "head.onnx"])
@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device", "loop", "folder", "socket", "absent"])
def test_a_file_of_a_bundle_that_is_none_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    """Whatever it is instead: the sentence names it, and nobody waits for a writer or an end."""
    bundle = with_file(tiny_bundle, tmp_path / "bundle", "head.onnx", (tiny_bundle.folder / "head.onnx").read_bytes())
    place = bundle / name
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        try:
            os.mknod(place, 0o20666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("no right to make a device here")
    elif kind == "link to a device":
        place.symlink_to("/dev/zero")
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            monkeypatch.chdir(bundle)  # the names of sockets are short
            one.bind(name)
    with pytest.raises(BundleError, match=f"cannot read {name} \\(") as told:
        bundles.read(bundle)

    if kind in {"fifo", "device", "link to a device"}:
        assert f"expected a regular file, got a {'FIFO' if kind == 'fifo' else 'device'}" in str(told.value)


def test_a_file_is_read_as_before(tmp_path: Path) -> None:
    """A link to a file is a file."""
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with open_regular(tmp_path / "b") as file:
        assert file.read() == b"abc"
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
