"""Image files below a folder, recognised by their first bytes, and a count of all other files.

Not used are hidden files and folders, what systems and viewers leave behind, and what is no image that can be read. It
knows nothing of classes or labels.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from breadcrumbs.models.files import open_regular
from breadcrumbs.models.images.decoding import more_formats
from breadcrumbs.models.images.kinds import HEAD, Kind, kind_of
from breadcrumbs.training.data.split import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
"""Suffixes that claim an image: such a file that is no image is a fault, not just an unused file."""
SYSTEM = frozenset(
    (
        *("@eadir", "@__thumb", "__macosx", "#recycle", "@recycle", "$recycle.bin", "lost+found", "__pycache__"),
        *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""What operating systems leave in folders, in lower case; names with a leading dot are hidden too."""
THUMBNAILS = frozenset({"thumbnails", "thumbnail", "thumbs", "_thumbs"})
"""Folders of thumbnails below a class."""
SHOWN = 20  # folders and suffixes named in one sentence
NO_SUFFIX = "without a suffix"
BACK = "a link to a folder that is used, or back"


@dataclass
class Unused:
    """Files that are not used.

    Attributes:
        files: how many, by suffix in lower case and, where they are images, their kind.
        folders: how many files are in each.
        kinds: which kinds of files are among them that could be made images of.
    """

    files: Counter[str] = field(default_factory=Counter)
    folders: Counter[str] = field(default_factory=Counter)
    kinds: set[Kind] = field(default_factory=set)

    def add(self, name: str, kind: Kind) -> None:
        """Count a file."""
        suffix = suffix_of(name) or NO_SUFFIX
        if not kind.remedy.startswith(("convert", "export")):
            self.files[suffix] += 1
            return
        self.kinds.add(kind)
        self.files[suffix if kind.name.lower() == suffix[1:] else f"{suffix} ({kind.name})"] += 1

    def add_folder(self, folder: str, name: str) -> None:
        """Count a folder and the files in it under a name."""
        self.folders[name] += sum(len(files) for _, _, files in os.walk(folder))

    def update(self, other: "Unused") -> None:
        """Add another count."""
        self.files.update(other.files)
        self.kinds |= other.kinds
        for name, count in other.folders.items():
            self.folders[name] += count

    def sentences(self) -> Iterator[str]:
        """Yield sentences about the unused files."""
        if self.files:
            yield f"{_files(self.files.total())} not used: {self.words()}{self._remedy()}"
        if self.folders:
            shown = [f"{name} ({_files(count)})" if count else name for name, count in self.folders.most_common(SHOWN)]
            more = len(self.folders) - len(shown)
            yield "folders not used: " + ", ".join(shown) + (f" and {more} more" if more else "")

    def _remedy(self) -> str:
        if not self.kinds:
            return ""
        extra = any(kind.extra for kind in self.kinds)
        install = ", or install the extra: pip install 'breadcrumbs-longtail[formats]'" if extra else ""
        names = ", ".join(sorted(kind.name for kind in self.kinds))
        return f"; to use {names}: convert them to JPEG or PNG{install}"

    def words(self) -> str:
        """How many files of which suffix, the most first."""
        shown = [f"{count} {suffix}" for suffix, count in self.files.most_common(SHOWN)]
        more = self.files.total() - sum(count for _, count in self.files.most_common(SHOWN))
        return ", ".join(shown) + (f" and {more} others" if more else "")


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case, with its dot; `` where there is none."""
    return PurePath(name).suffix.lower()


def is_left_out(name: str) -> bool:
    """Whether a name is hidden, or left behind by an operating system."""
    return name.startswith(".") or name.lower() in SYSTEM


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a broken link."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(entry: os.DirEntry[str], unused: Unused) -> bool:
    """Whether a file is to be used: an image by its first bytes, or by the name that claims it; else it is counted."""
    suffix = suffix_of(entry.name)
    try:
        if not entry.is_file() and not entry.is_symlink():
            unused.files["neither file nor folder"] += 1  # opening a pipe would block for ever
            return False
        if suffix in SUFFIXES:
            return True
        with open_regular(Path(entry.path)) as file:
            kind = kind_of(file.read(HEAD))
    except OSError as error:
        unused.files[f"{suffix or NO_SUFFIX} ({error.strerror or error})"] += 1
        return False
    if kind.pillow is not None and (not kind.extra or kind.pillow in more_formats()):
        return True
    unused.add(entry.name, kind)
    return False


def walk(top: Path, unused: Unused) -> Iterator[Path]:
    """Yield the image files below a folder, at any depth, folder by folder.

    Links to folders are followed, each folder once; those that lead back to where the walk came from are not.

    Args:
        top: the folder.
        unused: counts the other files.

    Raises:
        DataError: a folder cannot be read.
    """
    known = identities(top)
    waiting = [str(top)]
    while waiting:
        for entry in entries(waiting.pop()):
            if is_folder(entry):
                own = identity(entry.path)
                if is_left_out(entry.name) or entry.name.lower() in THUMBNAILS:
                    unused.add_folder(entry.path, entry.name)
                elif own in known:
                    unused.folders[f"{entry.name} ({BACK})"] += 0
                else:
                    known.add(own)
                    waiting.append(entry.path)
            elif is_left_out(entry.name):
                unused.files[f"hidden or of the system ({suffix_of(entry.name) or entry.name})"] += 1
            elif is_image(entry, unused):
                yield Path(entry.path)


def identities(folder: Path) -> set[tuple[int, int]]:
    """Return the identities of a folder and its parents, along the path given and along the real one."""
    return {identity(place) for place in (folder, *folder.absolute().parents, *folder.resolve().parents)}


def identity(folder: str | Path) -> tuple[int, int]:
    """Return a folder's identity, whatever path leads to it."""
    stat = Path(folder).stat()
    return stat.st_dev, stat.st_ino
