"""Images of a folder packed into shards, as a WebDataset writer would."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

Member = tuple[str, bytes]


def pack(path: Path, members: Iterable[Member]) -> Path:
    """Write a tar file of plain files."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(root: Path, path: Path, label: int | str, kind: str = "cls") -> list[Member]:
    """An image and its label under one key."""
    name = path.relative_to(root)
    text = str(label) if kind == "cls" else json.dumps({"label": label, "width": 16})
    return [(str(name), path.read_bytes()), (str(name.with_suffix(f".{kind}")), text.encode())]


def shards_of(root: Path, out: Path, count: int = 3, kind: str = "cls", *, names: bool = False) -> str:
    """Pack a folder of classes into `out/train-{000..}.tar`, dealt out like cards, and return the pattern."""
    out.mkdir(parents=True, exist_ok=True)
    classes = sorted(path.name for path in root.iterdir())
    (out / "classnames.txt").write_text("\n".join(classes) + "\n")
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((root / name).iterdir())]
    files.sort(key=lambda one: one[0].read_bytes())  # as if shuffled
    for number in range(count):
        own = [sample(root, path, classes[label] if names else label, kind) for path, label in files[number::count]]
        pack(out / f"train-{number:03d}.tar", [member for members in own for member in members])
    return f"{out}/train-{{000..{count - 1:03d}}}.tar"
