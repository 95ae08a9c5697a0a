"""`breadcrumbs adopt`: a backbone that is there already and images, or their features, to a bundle.

It knows nothing of how a backbone is opened or of how a head is made.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from breadcrumbs.commands.train import print_heads
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.config import RefitDevice, RefitSpec, read_deployment_prior
from breadcrumbs.training.stopping import STATUS, Terminated, stoppable
from breadcrumbs.training.terminal.refit_events import Json

if TYPE_CHECKING:
    from breadcrumbs.training.adopt.feature_files import FeatureFiles


def adopt(
    backbone: str | None = None,
    /,
    *,
    features: Path | None = None,
    test_features: Path | None = None,
    space: str | None = None,
    out: Path = Path("runs/latest"),
    cache: Path | None = None,
    device: RefitDevice = "auto",
    deployment_prior: str | None = None,
    int8: bool = False,
    json: Json = False,
    config: Annotated[AdoptConfig | None, Parameter(name="*")] = None,
) -> None:
    """Take a pretrained backbone that you have, fit a head for your images to its features, and write a bundle.

    The backbone is a timm network (downloaded with its pretrained weights), `hf-hub:org/name`, `local-dir:folder`, a
    file of weights with `--architecture`, or an ONNX file. It stays as it is: each image passes it once, and features
    are kept, so a second run only fits the head.

    With `--features` in place of a backbone, the features are those in a file. The bundle then has no backbone, and its
    server takes features.

    Example: `breadcrumbs adopt resnet50 --data photos/ --out runs/photos`

    Args:
        backbone: The network, its folder or its file.
        features: File of features with labels, computed elsewhere: `.npz`, Parquet, Arrow or a snapshot.
        test_features: The same to test on; default: a share of each class is held out (`--holdout`).
        space: Name of the backbone that made the features, where the files have no digest of it; one name for all
            files of that backbone.
        out: Folder of the run; the bundle goes into its `bundle/`.
        cache: Folder in which features are kept, of all backbones; default: among your caches. It may be deleted.
        device: Where the head is solved, as for `refit`.
        deployment_prior: How frequent the classes are where the head will answer, as for `refit`: `uniform`, the
            default, `training`, or a JSON file of weights.
        int8: Also make the backbone in int8, for CPUs, if it is 1.2 times as fast there and costs little recall.
        json: Print one JSON object: the bundle's folder and its metrics.
        config: Images and settings of the backbone.
    """
    named = _features(backbone, features, test_features, space, cache, int8=int8)
    chosen = config or AdoptConfig()
    prior = None if deployment_prior is None else read_deployment_prior(deployment_prior)
    spec = RefitSpec.model_validate({"deployment_prior": prior})
    try:
        with stoppable():
            if named is not None:
                from breadcrumbs.training.adopt.from_features import adopt_features

                bundle = adopt_features(named, chosen, out, spec=spec, device=device)
            else:
                from breadcrumbs.training.adopt.adopt import adopt as make
                from breadcrumbs.training.adopt.cache import default_folder

                bundle = make(backbone or "", chosen, out, cache or default_folder(), spec=spec, device=device)
                if int8:
                    from breadcrumbs.training.int8.int8 import add_int8

                    bundle = add_int8(bundle)
    except KeyboardInterrupt as stop:
        kept = "goes on, with the features that are kept" if named is None else "starts again"
        print(f"stopped; the same command {kept}", file=sys.stderr)  # noqa: T201
        if isinstance(stop, Terminated):
            sys.exit(STATUS)
        raise
    metrics = bundle.manifest.metrics
    print_heads(f"{bundle.folder} on {metrics['test_images']} test images", bundle.folder, metrics, as_json=json)
    if not json:
        print(f"next: breadcrumbs serve --bundle {shlex.quote(str(bundle.folder))}")  # noqa: T201


def _features(
    backbone: str | None, features: Path | None, test: Path | None, space: str | None, cache: Path | None, *, int8: bool
) -> "FeatureFiles | None":
    """The files of features that are named; None: a backbone is, and nothing that belongs to features.

    Raises:
        AdoptError: neither is named, or both.
    """
    from breadcrumbs.training.adopt.feature_files import FeatureFiles
    from breadcrumbs.training.adopt.opened import AdoptError

    if features is None:
        if test is not None or space is not None:
            raise AdoptError("--test-features and --space go with --features, which names the features to fit to")
        if backbone is None:
            raise AdoptError("name a backbone, for example resnet50, or a file of features with --features")
        return None
    if backbone is not None or cache is not None or int8:
        what = f"the backbone {backbone}" if backbone is not None else "--cache" if cache is not None else "--int8"
        raise AdoptError(f"--features has the features already, so {what} is not used: leave one of them out")
    return FeatureFiles(features, test, space)
