"""`breadcrumbs examples`: what people labelled, from a server into a file and back. It knows nothing of formats."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from breadcrumbs.commands.server import LOCAL, Key, Server
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.training.terminal.bars import bar
from breadcrumbs.training.terminal.refit_events import Json, tell_json

HELP = """Export the examples that people labelled on a server to a file, and import them from one.

Example: `breadcrumbs examples export examples.parquet`"""
ENDINGS: dict[str, Literal["parquet", "jsonl"]] = {".parquet": "parquet", ".jsonl": "jsonl"}
File = Annotated[Path, Parameter(help="The file.")]

examples = App(name="examples", help=HELP)


@examples.command(name="export")
def export_examples(file: File, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """Write a server's examples to a file, with their features, authors and times; Parquet or JSON lines by its ending.

    Example: `breadcrumbs examples export examples.parquet --server http://127.0.0.1:8000`

    Args:
        json: Print one JSON object: the file, its format and its size.
    """
    from breadcrumbs.serving.client.client import Client

    kind = ENDINGS.get(file.suffix)
    if kind is None:
        raise BreadcrumbsError(f"{file}: expected a file that ends with {' or '.join(ENDINGS)}")
    with Client(server, key=key) as client:
        size = client.export_examples(file, kind)
    if json:
        tell_json({"file": str(file), "format": kind, "bytes": size})
    else:
        print(f"{file}: {size} bytes")  # noqa: T201


@examples.command(name="import")
def import_examples(file: File, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """Send a file that `export` made to a server. A damaged file changes nothing; the same file again does not either.

    It takes a key with `admin`.

    Example: `breadcrumbs examples import examples.parquet --server http://127.0.0.1:8000`

    Args:
        json: Print the answer of `POST /v1/examples`.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key, timeout=3600) as client, bar("import") as told:
        brought = client.import_examples(file, told)
    if json:
        tell_json(brought.model_dump(mode="json"))
    else:
        print(", ".join(f"{count} {what}" for what, count in brought))  # noqa: T201
