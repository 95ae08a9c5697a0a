"""A hook of MkDocs: brings README, CHANGELOG and other pages from outside `docs/` into the site, and mends links.

Pages link to each other by their paths in the repository, as GitHub shows them. In the site a link to a page leads to
that page; a link to any other file of the repository, which the site does not have, becomes plain text. The hook knows
nothing of what the pages say.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/results.md": "results.md",
}
"""Paths in the repository of pages outside `docs/`, and their names in the site."""
IN_REPOSITORY = {name: path for path, name in OUTSIDE.items()}
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[((?:[^\[\]]|\n)*?)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside `docs/`."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between pages those of the site, in the text outside of fenced blocks."""
    del config
    name = page.file.src_uri
    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda found: _link(found, name, files), part) for part in parts[::2]]
    return "".join(parts)


def _link(found: re.Match[str], name: str, files: Files) -> str:
    text, target = found.groups()
    file, mark, anchor = target.partition("#")
    if not file or re.match(r"[a-z]+:", target):
        return found[0]
    here = posixpath.dirname(IN_REPOSITORY.get(name, f"docs/{name}"))
    path = posixpath.normpath(posixpath.join(here, file))
    if not (ROOT / path).exists():
        return found[0]  # a broken link, which the strict build reports
    if (ROOT / path).is_dir():
        path += "/README.md"
    there = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
    if there is None or files.get_file_from_path(there) is None:
        return text
    return f"[{text}]({posixpath.relpath(there, posixpath.dirname(name) or '.')}{mark}{anchor})"
