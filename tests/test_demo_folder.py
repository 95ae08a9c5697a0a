"""`breadcrumbs demo` empties a folder that a demo made and nobody uses, and touches no other."""

import os
import socket
from pathlib import Path

import pytest
from forked import command
from running import make_settings, running

from breadcrumbs.demo import folder
from breadcrumbs.demo.folder import MARK, DemoFailed
from breadcrumbs.models.bundle import Bundle


def tree(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["files", "folders", "run of before", "a file", "a link", "a marked link"])
def test_a_folder_that_no_demo_made_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    """With a sentence that names it and what to do."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    (kept / "sub").mkdir(parents=True)
    (kept / "sub" / "thesis.txt").write_text("precious")
    if kind == "a marked link":
        (kept / MARK).symlink_to(kept / "sub" / "thesis.txt")
    if kind == "a file":
        out.write_text("precious")
    elif "link" in kind:
        out.symlink_to(kept)
    else:
        out.mkdir()
        (out / {"files": "a.txt", "folders": "a", "run of before": "config.json"}[kind]).mkdir()
    before = tree(tmp_path)
    with pytest.raises(DemoFailed, match="was not made by a demo, so it is left as it is"), folder.own(out):
        pytest.fail("it was taken")

    assert tree(tmp_path) == before


@pytest.mark.parametrize("port_taken", [False, True])
def test_the_command_refuses_before_it_touches_anything(tmp_path: Path, port_taken: bool) -> None:
    """The port first, then the folder; exit status 2 and one sentence."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ("a.txt" if not port_taken else MARK)).write_text("precious")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        if port_taken:
            one.listen()
        else:
            one.close()
        done = command("demo", "--out", str(victim), "--port", str(port), "--no-stay")

    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr if port_taken else f"{victim} is not empty" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tree(victim).values()) == [b"precious"]


def test_a_demos_own_folder_is_emptied(tmp_path: Path) -> None:
    """An empty one, a new one, and one that an earlier demo has left; links in it are removed, not followed."""
    out, other = tmp_path / "runs" / "demo", tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with folder.own(out):
        (out / "bundle").mkdir()
        (out / "bundle" / "manifest.json").write_text("{}")
        (out / "log").write_text("")
        (out / "link").symlink_to(other)
    with folder.own(out):
        assert [path.name for path in out.iterdir()] == [MARK]

    assert tree(other) == {"thesis.txt": b"precious"}


def test_a_folder_that_a_demo_is_using_is_refused(tmp_path: Path) -> None:
    """Also when the demo was killed and only its server is left, which has the mark open."""
    with folder.own(tmp_path / "out") as mark:
        kept = os.dup(mark)
    (tmp_path / "out" / "bundle").mkdir()
    with pytest.raises(DemoFailed, match="in use by another demo or by a server"), folder.own(tmp_path / "out"):
        pytest.fail("it was taken")
    assert (tmp_path / "out" / "bundle").exists()
    os.close(kept)
    with folder.own(tmp_path / "out"):
        assert not (tmp_path / "out" / "bundle").exists()


@pytest.mark.parametrize("refit", ["here", "off"])
def test_a_folder_that_a_server_is_using_is_refused(tiny_bundle: Bundle, tmp_path: Path, refit: str) -> None:
    """A server that somebody has started on the demo's bundle or store, whatever it does with refits."""
    with folder.own(tmp_path / "out"):
        (tmp_path / "out" / "store").mkdir()
    with running(make_settings(tiny_bundle, tmp_path / "out" / "store", refit=refit)) as client:
        before = tree(tmp_path / "out")
        with pytest.raises(DemoFailed, match="in use by another demo or by a server"), folder.own(tmp_path / "out"):
            pytest.fail("it was taken")
        assert client.get("/v1/heads").json()["live"] == 1
        assert set(tree(tmp_path / "out")) == set(before)
