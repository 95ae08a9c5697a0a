"""The command line: from a folder of images to a live endpoint, and back again with feature snapshots.

Each command is a few lines that import what they need and nothing more: `breadcrumbs serve` never loads torch. The
flags of `train`, `refit` and `serve` are the fields of `TrainConfig`, `RefitSpec` and `Settings`.

Exit status: 0 it did what it says; 1 it found a bug of ours; 2 something you can mend, told in one sentence;
130 interrupted. `--debug` anywhere shows where an error came from; `--install-completion` teaches the shell.
"""

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.console import Console

from models.errors import BreadcrumbsError
from serving import commands
from serving.commands import LOCAL, Key
from serving.settings import Settings
from training.config import RefitSpec, TrainConfig
from training.progress import tell_json, telling

Fields = Parameter(name="*")  # every field is a flag of its own

app = App(name="breadcrumbs", help="Long-tailed image classification, from a folder of images to a live endpoint.")
for group in (commands.heads, commands.store, commands.keys):
    app.command(group)
app.register_install_completion_command()
screen = Console()


@app.command
def train(
    *,
    recipe: str = "demo",
    out: Path = Path("runs/latest"),
    resume: bool = False,
    config: Annotated[TrainConfig | None, Fields] = None,
) -> None:
    """Train backbone and heads, and write a bundle.

    Example: `breadcrumbs train --data photos/ --architecture resnet50 --pretrained --size 224 --out runs/photos`

    Args:
        recipe: named configuration to start from; every other flag overrides one of its fields.
        out: folder of the run; the bundle is in its `bundle/`.
        resume: go on from the checkpoint in `out`, with the configuration saved there.
        config: fields of the configuration.
    """
    from training import processes
    from training.config import recipe as find
    from training.fit import fit

    base = TrainConfig.model_validate(_read_json(out / "config.json")) if resume else find(recipe)
    given = {} if config is None else config.model_dump(include=config.model_fields_set)
    chosen = TrainConfig.model_validate({**base.model_dump(), **given})
    try:
        bundle = fit(chosen, out, resume=resume)
    except KeyboardInterrupt:
        print(f"stopped; go on with: breadcrumbs train --resume --out {out}", file=sys.stderr)  # noqa: T201
        raise
    if processes.is_main():
        _print_heads(
            f"{bundle.folder} on {bundle.manifest.metrics['test_images']} test images", bundle.manifest.metrics
        )
    processes.leave()


@app.command
def evaluate(
    bundle: Path,
    /,
    *,
    against: Path | None = None,
    data: str | None = None,
    test_data: str | None = None,
    images: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a bundle's heads on test images, as the server would answer, with 95 % intervals.

    Example: `breadcrumbs evaluate runs/photos/bundle --against runs/older/bundle`

    Args:
        bundle: folder of the bundle.
        against: another bundle, to compare the exported heads on the same test images.
        data: the data set, as for `train`; absent: the one it was trained on.
        test_data: its test part, as for `train`.
        images: root of the paths in list files, as for `train`.
        json: print one JSON object with everything.
    """
    from models import bundle as bundles
    from training.measure import config_of, measure
    from training.tables import shown

    opened, *other = (bundles.read(folder) for folder in (bundle, against) if folder is not None)
    config, *others = (config_of(one, data=data, test_data=test_data, images=images) for one in (opened, *other))
    found = measure(opened, config, (other[0], others[0]) if other else None)
    if json:
        tell_json(found)
        return
    wide = screen if screen.is_terminal else Console(width=max(screen.width, 160))  # a file has no width of its own
    for part in shown(found):
        wide.print(part, highlight=False)


@app.command
def export(run: Path, /, *, half: bool = False) -> None:
    """Make the bundle of a run again from its checkpoint.

    Example: `breadcrumbs export runs/photos --half`

    Args:
        run: folder of the run.
        half: also write the backbone in half precision, for GPUs, if no group loses recall by it.
    """
    from training.fit import export_checkpoint

    bundle = export_checkpoint(run, half=half)
    _print_heads(str(bundle.folder), bundle.manifest.metrics)


@app.command
def serve(settings: Annotated[Settings | None, Fields] = None) -> None:
    """Answer predict requests from a bundle; refit and swap heads.

    Example: `breadcrumbs serve --bundle runs/photos/bundle --store /var/lib/breadcrumbs --host 0.0.0.0`

    Args:
        settings: every flag is also an environment variable, `BREADCRUMBS_` and its name in capitals.
    """
    wanted = settings or Settings()
    if wanted.workers > 1:
        from serving.workers import run
    else:
        from serving.app import run
    run(wanted)


@app.command
def predict(
    *images: Path, server: str = LOCAL, bundle: Path | None = None, top_k: int = 3, json: bool = False, key: Key = None
) -> None:
    """Classify images by a running server, or without one by a bundle.

    Example: `breadcrumbs predict cat.jpg dog.png`

    Args:
        images: JPEG, PNG or WebP files.
        server: where it is.
        bundle: folder of a bundle, to compute here and ask no server.
        top_k: classes shown of each image.
        json: print one JSON object: where the answer is from, and each image's classes with probabilities.
        key: to come in with.
    """
    if not images:
        raise BreadcrumbsError("predict: name at least one image")
    if bundle is None:
        from serving.client import Client

        with Client(server, key=key) as client:
            answer = client.predict(list(images), top_k)
        found = [[(one.name, one.probability) for one in each.classes] for each in answer.predictions]
        source = f"head {answer.head.version}"
    else:
        from serving.local import predict as compute

        found, source = compute(bundle, images, top_k), str(bundle)
    if json:
        predictions = [
            {"image": str(path), "classes": dict(ranked)} for path, ranked in zip(images, found, strict=True)
        ]
        tell_json({"source": source, "predictions": predictions})
        return
    for path, ranked in zip(images, found, strict=True):
        words = "  ".join(f"{name} {probability:.3f}" for name, probability in ranked)
        screen.print(f"{path}  {words}  ({source})", highlight=False, markup=False)


@app.command
def doctor(settings: Annotated[Settings | None, Fields] = None) -> None:
    """Examine this installation as a server would need it, and say what to do.

    Exit status 2 if something has to be mended.

    Example: `breadcrumbs doctor --bundle runs/photos/bundle --store /var/lib/breadcrumbs`

    Args:
        settings: as for `serve`.
    """
    from serving.doctor import examine

    bad = False
    for finding in examine(settings or Settings()):
        mark = {"good": "ok", "note": "--", "bad": "!!"}[finding.state]
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        screen.print(f"{mark}  {finding.name}: {finding.text}{remedy}", highlight=False, markup=False, soft_wrap=True)
        bad = bad or finding.state == "bad"
    if bad:
        sys.exit(2)


@app.command
def snapshot(
    *,
    bundle: Path,
    out: Path,
    data: str | None = None,
    images: Path | None = None,
    epochs: int = 1,
    clean: bool = False,
    workers: int = 0,
) -> None:
    """Look at images with a bundle's backbone, and write a snapshot of each look, to refit from.

    Example: `breadcrumbs snapshot --data new-photos/ --bundle runs/photos/bundle --epochs 4 --out looks`

    Args:
        bundle: folder of the bundle.
        out: folder for the snapshots; their epochs go on from the bundle's newest.
        data: the images, as for `train`, nothing held out; absent: those it was trained on.
        images: root of the paths in list files, as for `train`.
        epochs: looks, each under fresh augmentation as in the bundle's recipe.
        clean: look once, as the server would.
        workers: processes that decode and augment.
    """
    from models import bundle as bundles
    from training.look import look

    opened = bundles.read(bundle)
    made = look(opened, out, data=data, folder=images, epochs=epochs, clean=clean, workers=workers)
    for path in made.paths:
        print(path)  # noqa: T201
    counts = f"{sum(made.rows.values())} images of {len(made.rows)} classes"
    new = ", ".join(f"{name} ({made.rows[name]})" for name in made.new)
    screen.print(f"{counts}; new: {new or 'none'}", highlight=False, markup=False)


@app.command
def convert(
    source: Path,
    out: Path,
    /,
    *,
    bundle: Path | None = None,
    epoch: int | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Make a snapshot of features that came as `.npz`, Parquet or Arrow: check them and write safetensors.

    Example: `breadcrumbs convert features.npz march.safetensors --bundle runs/photos/bundle --epoch 95`

    Args:
        source: the file.
        out: the snapshot.
        bundle: whose backbone made the features and whose classes the labels are, where the file does not say.
        epoch: of the snapshot, where the file does not say.
        classes: names of the labels 0, 1, 2 …, where neither file nor bundle should say; once for each class.
    """
    from models import bundle as bundles
    from models.convert import convert as converted
    from models.door import LIMIT
    from models.parts import Given

    opened = None if bundle is None else bundles.read(bundle)
    names = classes or (None if opened is None else opened.manifest.classes)
    made = converted(source, out, Given(None if opened is None else opened.backbone_digest, epoch, names), LIMIT)
    for change in made.changes:
        print(change)  # noqa: T201
    rows = f"{out}: {len(made.snapshot.labels)} rows, {len(made.snapshot.classes)} classes, epoch {made.snapshot.epoch}"
    screen.print(rows, highlight=False, markup=False)


@app.command
def refit(
    *,
    bundle: Path | None = None,
    server: str | None = None,
    out: Path | None = None,
    snapshot: tuple[Path, ...] = (),
    head: Path | None = None,
    holdout: Path | None = None,
    spec: Path | None = None,
    new_bundle: bool = True,
    json: bool = False,
    key: Key = None,
    given: Annotated[RefitSpec | None, Fields] = None,
) -> None:
    """Make a new head from feature snapshots, without images: here from a bundle, or on a server.

    A server runs this very command for `POST /v1/refit`.

    Example: `breadcrumbs refit --bundle runs/photos/bundle --snapshot new.safetensors --out refitted`

    Args:
        bundle: folder of the deployed bundle, to refit here.
        server: where a server is, to refit there.
        out: folder for head.safetensors, head.onnx, report.json and report.html; a server needs none.
        snapshot: snapshots to use beside the bundle's own; may be given several times.
        head: head.safetensors of the live head; absent: the bundle's.
        holdout: snapshot to choose and compare on; absent: a share of the images is held out.
        spec: a JSON file of settings; flags override it.
        new_bundle: also write a whole bundle with the new head, `bundle/` in `out`; not from a server.
        json: print one JSON object a line: stages, progress, the end.
        key: to come in with, on a server.
        given: settings of the refit.
    """
    if (bundle is None) == (server is None) or (bundle is not None and out is None) or (server and head):
        raise BreadcrumbsError("refit: name --bundle and --out, to refit here, or --server alone, to refit there")
    base: dict[str, Any] = {} if spec is None else _read_json(spec)
    base |= {} if given is None else given.model_dump(include=given.model_fields_set)
    wanted = RefitSpec.model_validate(base)
    with telling(as_json=json) as tell:
        if bundle is not None and out is not None:
            from training.refitted import run

            made = run(bundle, head, snapshot, holdout, wanted, out, tell, new_bundle=new_bundle)
            report, verdict = made.model_dump(), f"gate: {'; '.join(made.gate.reasons) or 'passed'}"
        else:
            from serving.client import Client
            from serving.remote import refit as refit_there

            with Client(server or "", key=key) as client:
                report, became = refit_there(client, snapshot, holdout, wanted, out, tell)
            verdict = f"head {became.head}: {became.note}"
    if json:
        tell_json({"event": "done", "verdict": verdict})
        return
    _print_heads(f"{out or server} on {report.get('rows', '?')} held-out rows", report)
    print(verdict)  # noqa: T201


@app.command
def demo(*, out: Path = Path("runs/demo"), port: int = 8000, stay: bool = True) -> None:
    """Train on the embedded images, serve, predict, refit and activate: everything once, on this machine.

    Args:
        out: folder for everything it makes; emptied first.
        port: of the server.
        stay: leave the server running at the end, until Ctrl-C.
    """
    from serving.demo import run

    shutil.rmtree(out, ignore_errors=True)
    run(out, port, stay=stay)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BreadcrumbsError(f"there is no {path}") from error
    except (OSError, ValueError) as error:
        raise BreadcrumbsError(f"{path}: expected a JSON object of settings ({error})") from error
    if not isinstance(value, dict):
        raise BreadcrumbsError(f"{path}: expected a JSON object of settings, got {type(value).__name__}")
    return value


def _print_heads(title: str, metrics: dict[str, Any]) -> None:
    from training.tables import in_short

    screen.print(in_short(title, metrics))


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    kind: Literal["json", "text"] = "json" if "--json" in sys.argv else "text"
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        logging.getLogger().setLevel(logging.DEBUG)
    try:
        app()
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        sys.exit(0)
    except (BreadcrumbsError, ValidationError, OSError) as error:
        if debug:
            raise
        message = _sentence(error)
        if kind == "json":
            tell_json({"event": "error", "error": {"type": type(error).__name__, "message": message}})
        print(f"breadcrumbs: {message}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _sentence(error: BreadcrumbsError | ValidationError | OSError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    main()
