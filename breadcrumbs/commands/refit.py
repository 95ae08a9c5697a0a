"""`breadcrumbs refit`: snapshots to a new head, here or on a server; the server runs this very command.

It knows nothing of how a head is made.
"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from breadcrumbs.commands.server import Key
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.training.config import RefitDevice, RefitSpec, read_deployment_prior, read_settings
from breadcrumbs.training.terminal.refit_events import Json, Tell, tell_json, telling
from breadcrumbs.training.terminal.tables import show

Names = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
"""A flag with a mapping of names."""


def refit(
    *,
    bundle: Path | None = None,
    server: str | None = None,
    out: Path | None = None,
    snapshot: tuple[Path, ...] = (),
    examples: tuple[Path, ...] = (),
    head: Path | None = None,
    holdout: Path | None = None,
    gate_holdout: Path | None = None,
    spec: Path | None = None,
    classes: Names = (),
    aliases: Names = (),
    deployment_prior: str | None = None,
    line: str | None = None,
    new_bundle: bool = True,
    json: Json = False,
    key: Key = None,
    device: RefitDevice = "auto",
    given: Annotated[RefitSpec | None, Parameter(name="*")] = None,
) -> None:
    """Fit a new head to feature snapshots, without images: locally from a bundle, or on a server.

    A server runs this same command for `POST /v1/refit`.

    Example: `breadcrumbs refit --bundle runs/photos/bundle --snapshot new.safetensors --out refitted`

    Args:
        bundle: Folder of the deployed bundle, to refit locally.
        server: URL of a server, to refit there.
        out: Folder for head.safetensors, head.onnx, report.json and report.html; optional with `--server`.
        snapshot: Snapshot to use beside the bundle's own; may be repeated.
        examples: Snapshot of rows that people labelled, as a server makes it of its examples; may be repeated. One in
            five of the verified ones is judged on and never fitted. Only without `--server`, which has its own.
        head: head.safetensors of the live head; default: the bundle's head.
        holdout: Snapshot to judge on; default: the bundle's hold-out, or a share of the images where it has none.
        gate_holdout: Snapshot to compare on in place of `--holdout`; a server passes the one that it has pinned.
        spec: JSON file of settings; flags override it.
        classes: What becomes of a class: `old=new` renames it, or merges it into the class of that name, `old=` removes
            it; may be repeated. Or a JSON file, `{"old": "new", "gone": null}`.
        aliases: Other names that snapshots have for a class, `other=name`; `other=` leaves their rows out. As
            `--classes` otherwise.
        deployment_prior: How frequent the classes are where the head will answer: `uniform`, `training`, a JSON file of
            weights, `{"oak": 3, "elm": 1}`, or with `--server` the name of a stored prior.
        line: Line of the server whose live head it is compared with, and where its head may go live.
        new_bundle: Also write a complete bundle with the new head to `bundle/` in `--out`; only without `--server`.
        json: Print one JSON object per line: stages, progress, the result.
        device: Where to solve, if locally. `auto`: on the GPU if there is one with room and the rows are many enough to
            pay for it; `cuda`: an error where it cannot be used.
        given: Settings of the refit.
    """
    if bundle is not None and line is not None:
        raise BreadcrumbsError(f"--line {line}: lines are a server's; leave it out, or name --server")
    here = (head, gate_holdout, examples) != (None, None, ()) or device != "auto"
    theirs = server is not None and here
    if (bundle is None) == (server is None) or (bundle is not None and out is None) or theirs:
        raise BreadcrumbsError(
            "refit: name --bundle and --out, to refit locally, or --server without --bundle, --examples, --head, "
            "--gate-holdout and --device"
        )
    base: dict[str, Any] = {} if spec is None else read_settings(spec)
    base |= {} if given is None else given.model_dump(include=given.model_fields_set)
    for field, values in (("classes", classes), ("aliases", aliases)):
        if values:
            base[field] = {**base.get(field, {}), **_names(field, values)}
    if deployment_prior is not None:
        base["deployment_prior"] = read_deployment_prior(deployment_prior)
    wanted = RefitSpec.model_validate(base)
    with telling(as_json=json) as tell:
        if bundle is not None and out is not None:
            from breadcrumbs.training.refit.files import run

            made = run(
                bundle, head, snapshot, holdout, wanted, out, tell,
                new_bundle=new_bundle, device=device, gate_holdout=gate_holdout, examples=examples,
            )  # fmt: skip
            report: dict[str, Any] | None = made.model_dump()
            verdict = f"The gate says {made.gate.words}"
        else:
            report, verdict = _there(server or "", key, snapshot, holdout, wanted, out, tell, line)
    if json:
        tell_json({"event": "done", "verdict": verdict})
        return
    if report is not None:
        from breadcrumbs.training.terminal.tables import calibration, in_short

        show(in_short(f"{out or server} on {report.get('rows', '?')} held-out rows", report))
        if report.get("calibration"):
            show(calibration(report["calibration"]))
        for note in report.get("notes", []):
            print(f"note: {note}")  # noqa: T201
    print(verdict)  # noqa: T201


def _names(field: str, values: tuple[str, ...]) -> dict[str, str | None]:
    """Read `old=new`, `old=` and JSON files into one mapping.

    Raises:
        BreadcrumbsError: a value is neither, or two say different things of one name.
    """
    found: dict[str, str | None] = {}
    for value in values:
        old, equals, new = value.partition("=")
        if "=" in new:
            raise BreadcrumbsError(f"--{field} {value!r:.80}: more than one =; write names with = into a JSON file")
        for name, became in ({old: new or None} if equals else read_settings(Path(value))).items():
            if found.setdefault(name, became) != became:
                raise BreadcrumbsError(f"--{field}: {name!r:.80} becomes {found[name]!r:.80} and {became!r:.80}")
    return found


def _there(
    server: str, key: str | None, snapshots: tuple[Path, ...], holdout: Path | None, spec: RefitSpec, out: Path | None,
    tell: Tell, line: str | None,
) -> tuple[dict[str, Any] | None, str]:  # fmt: skip
    """The report of a refit on a server, if there is one, and what became of its head."""
    from breadcrumbs.serving.client.client import Client
    from breadcrumbs.serving.client.refit import refit as refit_on_server

    with Client(server, key=key) as client:
        report, became = refit_on_server(client, snapshots, holdout, spec, out, tell, line)
    return report, f"head {became.head}: {became.note}"
