"""Shards in WebDataset's form: tar files in which `KEY.jpg` stands beside `KEY.cls` or `KEY.json`; indexed and checked.

Every shard's headers are walked once; what is kept of an image is shard, offset and length, so any image can be read
at any time: order and augmentation are those of the same images in a folder. Archives are not trusted: nothing is
unpacked, sizes are bounded, and a defect is reported with shard and key. It knows nothing of pixels.
"""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

from breadcrumbs.training.data import objects
from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import DataError
from breadcrumbs.training.terminal.bars import track

IMAGES = {"jpg", "jpeg", "jpe", "jfif", "png", "webp"}
MAX_SHARDS = 1_000_000
MAX_LABEL = 1 << 16
"""Bytes of a `.cls` or `.json` member."""
MAX_HEADER = 1 << 20
"""The most bytes that a header may make the reader read at once: names, not contents."""
BLOCK = 1 << 16
"""Bytes read at a time while headers are walked: the contents between two headers are skipped."""
THREADS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its label, a number or a class's name."""

    span: Span
    label: int | str


def are_shards(pattern: str) -> bool:
    """Whether a source names tar files."""
    return pattern.endswith(".tar")


def expand(pattern: str) -> tuple[str, ...]:
    """Return the shards that a pattern names: `{000..011}` stands for each number, padded with zeros.

    Raises:
        DataError: an invalid range, or too many shards.
    """
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return (pattern,)
    ends = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", found[1])
    if ends is None or int(ends[1]) > int(ends[2]):
        raise DataError(f"{pattern}: expected a range as {{000..011}}, got {found[0]!r:.80}")
    if int(ends[2]) - int(ends[1]) >= MAX_SHARDS:
        raise DataError(f"{pattern}: {found[0]} names more than {MAX_SHARDS} shards")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    numbers = range(int(ends[1]), int(ends[2]) + 1)
    return tuple(head + f"{number:0{len(ends[1])}d}" + rest for rest in expand(tail) for number in numbers)


def index(pattern: str, *, show: bool = True) -> list[Sample]:
    """Return the samples of all shards of a pattern in the order of their names, however they were packed.

    Args:
        pattern: which shards.
        show: show progress.

    Raises:
        DataError: naming the shards that are not there, cut short or no tar file, and samples without image or label.
    """
    shards = expand(pattern)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(track(pool.map(_walk_and_tell, shards), len(shards), "shards indexed", show=show))
    _tell(problem for _, told in found for problem in told)
    samples = [sample for samples, _ in found for sample in samples]
    return sorted(samples, key=lambda sample: (PurePosixPath(sample.span.member), sample.span.place))


def class_names(pattern: str) -> tuple[str, ...] | None:
    """Return the lines of `classnames.txt` beside the shards, or None if there is no such file.

    Raises:
        DataError: the file exists but cannot be read.
    """
    folder, slash, _ = pattern.rpartition("/")
    place = folder + slash + "classnames.txt"
    try:
        text = objects.read(place).decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: {error}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _walk_and_tell(shard: str) -> tuple[list[Sample], list[str]]:
    """One shard's samples, and its faults."""
    parts: dict[str, dict[str, Span]] = {}
    problems: list[str] = []
    try:
        for span in _members(shard):
            folder, slash, name = span.member.rpartition("/")
            stem, dot, kind = name.partition(".")
            if not stem or not dot or stem.startswith("__"):
                continue  # not part of a sample: hidden files and WebDataset's own
            kind = kind.lower()
            own = parts.setdefault(folder + slash + stem, {})
            role = "image" if kind in IMAGES else kind
            if role in own:
                problems.append(f"{shard}: key {folder + slash + stem!r:.200} has two members of kind {role}")
            own[role] = span
    except (tarfile.TarError, OSError, DataError) as error:
        return [], [f"{shard}: {error.strerror if isinstance(error, FileNotFoundError) else error}"]
    samples = []
    for key, own in parts.items():
        try:
            samples.append(Sample(_image(own), _label(own)))
        except (DataError, OSError) as error:
            problems.append(f"{shard}: key {key!r:.200}: {error}")
    if not parts:
        problems.append(f"{shard}: there is no sample in it")
    return samples, problems


def _members(shard: str) -> Iterator[Span]:
    """The files in an archive, with the place of their bytes."""
    blocks = _Blocks(shard)
    last = -1
    with tarfile.open(fileobj=blocks, mode="r:") as tar:  # type: ignore[call-overload]  # it has all the methods that tarfile calls
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile would keep all of them
            if member.size < 0 or member.offset_data <= last:
                raise DataError(
                    f"member {member.name!r:.200} has {member.size} bytes at {member.offset_data}: not a tar file"
                )
            last = member.offset_data
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise DataError(f"member {member.name!r:.200} is no plain file")
            if member.offset_data + member.size > blocks.size:
                raise DataError(f"cut short within member {member.name!r:.200}")
            yield Span(shard, member.offset_data, member.size, member.name)
        end = tar.offset
    blocks.seek(end)
    if blocks.read(512) != bytes(512):
        raise DataError(f"cut short or damaged at byte {end}: no header, and no end of the archive")


def _image(own: dict[str, Span]) -> Span:
    if "image" not in own:
        raise DataError(f"no image beside {', '.join(sorted(own))[:200]}; expected one of {', '.join(sorted(IMAGES))}")
    return own["image"]


def _label(own: dict[str, Span]) -> int | str:
    """What `.cls` holds, a number or a name, or `label` in `.json`."""
    kind = next((kind for kind in ("cls", "json") if kind in own), None)
    if kind is None:
        raise DataError("no label; expected a member .cls or .json")
    length = own[kind].length or 0
    if length > MAX_LABEL:
        raise DataError(f".{kind} has {length} bytes; the limit is {MAX_LABEL}")
    try:
        text = own[kind].read_bytes().decode().strip()
        value = json.loads(text)["label"] if kind == "json" else text
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f".{kind} holds no label: expected a number or a name{' in `label`' * (kind == 'json')}"
        ) from error
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "" or abs(_number(value)) >= 10**9:
        raise DataError(f".{kind}: expected a number or a name, got {value!r:.80}")
    return value


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else 0


def labelled(samples: Sequence[Sample], classes: Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Number the labels; the classes are those that are given, else those that occur.

    Raises:
        DataError: naming shard and key of labels that no class has; numbers beside names.
    """
    names = {sample.label for sample in samples if isinstance(sample.label, str)}
    numbers = [sample for sample in samples if isinstance(sample.label, int)]
    if classes is None and names and numbers:
        one = numbers[0]
        raise DataError(
            f"{one.span}: label {one.label} is a number, others are names; without classnames.txt all are one"
        )
    if classes is None:
        # More classes than images cannot be: a label beyond that is a problem to be named, not a number of classes.
        most = min(max((_number(sample.label) for sample in numbers), default=-1), len(samples) - 1)
        classes = sorted(names) or [str(label) for label in range(most + 1)]
    known = {name: label for label, name in enumerate(classes)}
    _tell(
        f"{sample.span}: label {sample.label!r:.80} is not known; expected 0 … {len(known) - 1} or a class's name"
        for sample in samples
        if (sample.label not in known if isinstance(sample.label, str) else not 0 <= sample.label < len(known))
    )
    return [known[s.label] if isinstance(s.label, str) else s.label for s in samples], tuple(classes)


def _tell(problems: Iterable[str]) -> None:
    faults = Faults("the shards")
    faults.extend(problems)
    faults.tell()


class _Blocks:
    """A file or object as `tarfile` reads it: sought in, read in blocks, never more than a header at a time."""

    def __init__(self, place: str) -> None:
        self._place, self.size = place, objects.size(place)
        self._at, self._first, self._block = 0, 0, b""

    def tell(self) -> int:
        return self._at

    def seek(self, at: int, whence: int = 0) -> int:
        if whence != 0:
            raise ValueError("only from the start; this is a bug")
        self._at = at
        return at

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MAX_HEADER:
            raise DataError(f"a header of {count} bytes at byte {self._at}; the limit is {MAX_HEADER}")
        end = min(self._at + count, self.size)
        if self._at >= end:
            return b""
        if not self._first <= self._at <= end <= self._first + len(self._block):
            length = min(max(BLOCK, count), self.size - self._at)
            self._first, self._block = self._at, objects.read(self._place, self._at, length)
        data = self._block[self._at - self._first : end - self._first]
        self._at = end
        return data
