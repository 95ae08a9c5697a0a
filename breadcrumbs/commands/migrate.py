"""`breadcrumbs migrate`: the labelled rows of a bundle move to another backbone, without their images.

It knows nothing of how a map or a head is made.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.config import RefitDevice, RefitSpec, read_settings
from breadcrumbs.training.terminal.refit_events import Json, tell_json, telling
from breadcrumbs.training.terminal.tables import show


def migrate(
    *,
    old: Annotated[Path, Parameter(name="--from")],
    to: str,
    out: Path,
    pairs: Path | None = None,
    pairs_from: Annotated[tuple[Path, Path] | None, Parameter(negative=())] = None,
    max_pixels: int = MAX_PIXELS,
    device: RefitDevice = "auto",
    spec: Path | None = None,
    json: Json = False,
    opening: Annotated[BackboneConfig | None, Parameter(name="*")] = None,
    given: Annotated[RefitSpec | None, Parameter(name="*")] = None,
) -> None:
    """Move a bundle's labelled rows to another backbone, without their images, and fit a head to them there.

    A map between the two backbones is fitted to pairs: images that both see, which need no label.

    Example: `breadcrumbs migrate --from runs/old/bundle --to runs/better/bundle --pairs recent --out runs/new`

    Args:
        old: Folder of the bundle whose rows move.
        to: The new backbone: a bundle's folder, whose own rows are used, too, if its classes are the same; or a
            network, a file of weights or an ONNX file, as `adopt` takes it.
        out: Folder for the new bundle and the report.
        pairs: Folder of images, at any depth, that go through both backbones; 100 help, 500 are better. A subfolder
            that is named as a class labels its images, and half of these judge the new head. Or the store of a server
            that has collected pairs (`serve --migrate-to`). Without pairs, the images that both bundles have rows of
            take their place.
        pairs_from: Instead of images: two snapshots of the same images, by the old backbone and by the new one.
        max_pixels: Largest number of pixels in one image, as for `train`.
        device: Where to solve, as for `refit`.
        spec: JSON file of settings of the refit; flags override it.
        json: Print one JSON object per line: stages, progress, what was kept.
        opening: How a backbone is opened that is no bundle.
        given: Settings of the refit.
    """
    if pairs is not None and pairs_from is not None:
        raise BreadcrumbsError("migrate: name a folder of images with --pairs, or two snapshots with --pairs-from")
    base = {} if spec is None else read_settings(spec)
    base |= {} if given is None else given.model_dump(include=given.model_fields_set)
    wanted = RefitSpec.model_validate(base)
    from breadcrumbs.training.migrate.files import run
    from breadcrumbs.training.migrate.told import lines

    with telling(as_json=json) as tell:
        report = run(old, to, pairs_from if pairs is None else pairs, wanted, out, tell, device, max_pixels, opening)
    verdict, part = f"The gate says {report.gate.words}", report.migration
    if json:
        kept = None if part is None else part.model_dump(mode="json")
        tell_json({"event": "done", "bundle": str(out / "bundle"), "verdict": verdict, "migration": kept})
        return
    from breadcrumbs.training.terminal.tables import in_short

    show(in_short(f"{out} on {report.rows} rows ({report.holdout.source})", report.model_dump()))
    for line in () if part is None else lines(part):
        print(line)  # noqa: T201
    for note in report.notes:
        print(f"note: {note}")  # noqa: T201
    print(verdict)  # noqa: T201
