"""`breadcrumbs adopt`: a backbone that is there already, and images, to a bundle.

It knows nothing of how a backbone is opened or of how a head is made.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from breadcrumbs.commands.train import print_heads
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.config import RefitDevice
from breadcrumbs.training.stopping import STATUS, Terminated, stoppable
from breadcrumbs.training.terminal.refit_events import Json


def adopt(
    backbone: str,
    /,
    *,
    out: Path = Path("runs/latest"),
    cache: Path | None = None,
    device: RefitDevice = "auto",
    json: Json = False,
    config: Annotated[AdoptConfig | None, Parameter(name="*")] = None,
) -> None:
    """Take a pretrained backbone that you have, fit a head for your images to its features, and write a bundle.

    The backbone is a timm network (downloaded with its pretrained weights), `hf-hub:org/name`, `local-dir:folder`, a
    file of weights with `--architecture`, or an ONNX file. It stays as it is: each image passes it once, and features
    are kept, so a second run takes seconds.

    Example: `breadcrumbs adopt resnet50 --data photos/ --out runs/photos`

    Args:
        backbone: The network, its folder or its file.
        out: Folder of the run; the bundle goes into its `bundle/`.
        cache: Folder in which features are kept, of all backbones; default: among your caches. It may be deleted.
        device: Where the head is solved, as for `refit`.
        json: Print one JSON object: the bundle's folder and its metrics.
        config: Images and settings of the backbone.
    """
    chosen = config or AdoptConfig()
    try:
        with stoppable():
            from breadcrumbs.training.adopt.adopt import adopt as make
            from breadcrumbs.training.adopt.cache import default_folder

            bundle = make(backbone, chosen, out, cache or default_folder(), device=device)
    except KeyboardInterrupt as stop:
        print("stopped; the same command goes on, with the features that are kept", file=sys.stderr)  # noqa: T201
        if isinstance(stop, Terminated):
            sys.exit(STATUS)
        raise
    metrics = bundle.manifest.metrics
    print_heads(f"{bundle.folder} on {metrics['test_images']} test images", bundle.folder, metrics, as_json=json)
    if not json:
        print(f"next: breadcrumbs serve --bundle {shlex.quote(str(bundle.folder))}")  # noqa: T201
