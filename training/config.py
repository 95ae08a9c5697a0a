"""What a training run and a refit are told: two frozen, checked models. The named recipes are in `training.recipes`.

It imports no torch, since the server reads `RefitSpec` here. Every field is a flag of the command line; the text below
a field is its help, but for a mapping of names, whose flag is its command's own.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.images.preprocess import Interpolation
from breadcrumbs.models.prior import PriorError, check_weights

EMBEDDED = "fashion-mnist-lt"
STANDARD = ("fashion-mnist", "cifar100")

GROUPS = ("Images", "Pixels", "Network", "Training", "Computing")
"""The groups of a run's settings, in the order of its help."""
IMAGES, PIXELS, NETWORK, TRAINING, COMPUTING = (
    Parameter(group=Group(title, sort_key=place)) for place, title in enumerate(GROUPS)
)

Check = Literal["headers", "full"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of models, as a bundle's manifest has them."""

MOST_NAMES = 100_000
"""Names that an edit of classes may have."""

Method = Literal["plain", "crt", "breadcrumb", "breadcrumb-paper"]
RefitDevice = Literal["auto", "cpu", "cuda"]
"""Where a refit is solved; `auto`: see `training.refit.device`."""


class ConfigError(BreadcrumbsError):
    """A setting that cannot be, or a recipe that is not there."""


def absent(value: object) -> object:
    """Read the word none as None."""
    return None if value == "none" else value


class PixelConfig(BaseModel):
    """How an image reaches a network."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    mean: Annotated[tuple[float, float, float] | None, PIXELS] = None
    """Mean of each channel, on the scale 0 … 1; absent: as the network's weights were trained."""
    std: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None, PIXELS] = None
    """Standard deviation of each channel, on the scale 0 … 1; absent: as the network's weights were trained."""
    interpolation: Annotated[Interpolation | None, PIXELS] = None
    """How images are resized; absent: as for the network's weights. Training knows nearest, bilinear and bicubic, and
    takes the nearest of these."""
    crop: Annotated[Annotated[float, Field(ge=0.1, le=1)] | Literal["squash"] | None, PIXELS] = None
    """Side of the centre crop in evaluation, as a share of the resized shorter side; `squash`: resize to a square
    without a crop; absent: as for the network's weights."""

    @field_validator("mean", "std", "interpolation", "crop", mode="before")
    @classmethod
    def _no_pixels(cls, value: object) -> object:
        return absent(value)


class ImageConfig(PixelConfig):
    """Which images there are, how they reach a network, and what the model is called."""

    name: Annotated[str | None, IMAGES] = Field(default=None, pattern=NAME)
    """Name of the model in the bundle, the reports and the server; absent: that of `data`."""
    data: Annotated[str, IMAGES] = EMBEDDED
    """`fashion-mnist-lt` (embedded), `fashion-mnist` or `cifar100` (files in `images`), a folder with a folder per
    class, a list (`path label` lines, CSV, JSON lines or COCO), or shards (`train-{000..011}.tar`), local or at
    `s3://`."""
    test_data: Annotated[str | None, IMAGES] = None
    """The same for evaluation; absent: `test/` or `val/` beside `train/`, or the list's rows with these splits, else a
    share of the images is held out."""
    images: Annotated[Path | None, IMAGES] = None
    """Root of the paths in list files (absent: the list's folder), or folder of the files of a standard set."""
    download: Annotated[bool, IMAGES] = False
    """Download a standard set into `images` if it is missing (needs the network once)."""
    imbalance: Annotated[float | None, IMAGES] = Field(default=None, ge=1)
    """For a standard set: ratio of the sizes of the largest and smallest class, with exponential decay between them."""
    largest: Annotated[int | None, IMAGES] = Field(default=None, ge=1)
    """For a standard set: training images of the largest class; absent: all of them."""
    holdout: Annotated[float, IMAGES] = Field(default=0.2, gt=0, lt=1)
    """Share of each class held out for evaluation, if the data has no split of its own."""
    check: Annotated[Check, IMAGES] = "headers"
    """How images are checked before training. `headers`: header and end of each file; `full`: each is decoded."""
    max_pixels: Annotated[int, IMAGES] = Field(default=MAX_PIXELS, ge=1)
    """Largest number of pixels in one image, read from its header before it is decoded, as on the server."""
    workers: Annotated[int, COMPUTING] = Field(default=0, ge=0)
    """Processes that decode and augment, per training process, at most one a core; 0: the training process itself."""
    taxonomy: Annotated[Path | None, IMAGES] = None
    """CSV file of the groups that each class belongs to: `class` and a column for each rank, from the nearest to the
    root, or rows of `child,parent`. It goes into the bundle, whose answers then also name the deepest sure group."""
    groups: Annotated[Literal["A", "B"], IMAGES] = "A"
    """Convention of many / medium / few: A: at least 100 / at most 20 training images; B: more than 100 / fewer than
    20."""
    seed: Annotated[int, COMPUTING] = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, order and augmentation."""

    @field_validator("name", "test_data", "images", "imbalance", "largest", "taxonomy", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        """A flag takes back what a recipe sets: `--imbalance none`."""
        return absent(value)

    @property
    def model_name(self) -> str:
        """What the model is called: `name`, or what a name may have of the data's."""
        stem = re.sub(r"\.(txt|csv|jsonl?|tar)$", "", self.data.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1])
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]
        return self.name or plain or "breadcrumbs"


class TrainConfig(ImageConfig):
    """Everything that decides a training run; saved beside what the run made."""

    architecture: Annotated[str, NETWORK] = "resnet8"
    """resnet8 … resnet32 for small images, also wider (resnet8x2, resnet8x4), resnet10, or any timm name."""
    pretrained: Annotated[bool, NETWORK] = False
    """Start from timm's pretrained weights (needs the network once)."""
    weights: Annotated[Path | None, NETWORK] = None
    """Start from a file with weights of this timm network instead, `.safetensors` or a state dict by torch.save."""
    frozen: Annotated[bool, NETWORK] = False
    """Keep the backbone fixed and train only the heads, on features that are computed once, without augmentation."""
    start: Annotated[Literal["random", "head"], NETWORK] = "random"
    """How the heads begin. `random`: with random weights; `head`: fitted to the pretrained network's features before
    the first epoch. A network that is frozen, or without pretrained weights, begins as with `random`."""
    size: Annotated[int, NETWORK] = Field(default=28, ge=1, le=4096)
    """Side of the square input, in pixels."""
    augmentation: Annotated[Literal["crop-flip", "crop", "flip", "resized-crop", "none"], NETWORK] = "crop-flip"
    """crop: shift by up to 1/8; flip: mirror; crop-flip: both; resized-crop: random area and aspect, mirror, colour."""
    method: Annotated[Method, TRAINING] = "breadcrumb"
    """How the balanced head learns. `plain`: not at all, the joint head is exported; `crt`: on class-balanced images,
    in a second forward pass; `breadcrumb`: on the trail; `breadcrumb-paper`: as in the paper's released code."""
    epochs: Annotated[int, TRAINING] = Field(default=36, ge=1)
    """Passes over the data; with `patience`, the most."""
    patience: Annotated[int | None, TRAINING] = Field(default=None, ge=1)
    """Epochs without a better balanced accuracy on watched images, after which training stops; the best epoch is
    exported. A tenth of the training images is watched, and not trained on. Absent: every epoch is trained, and the
    last is exported."""
    batch_size: Annotated[int, TRAINING] = Field(default=64, ge=2)
    """Images per step, over all processes together."""
    optimizer: Annotated[Literal["sgd", "adamw"], TRAINING] = "sgd"
    """Optimizer of the backbone and the joint head; the balanced head always uses SGD."""
    learning_rate: Annotated[float, TRAINING] = Field(default=0.1, gt=0)
    """Peak of the cosine schedule for the backbone and the joint head."""
    balanced_learning_rate: Annotated[float, TRAINING] = Field(default=0.1, gt=0)
    """Peak of the schedule for the balanced head."""
    momentum: Annotated[float, TRAINING] = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum of SGD."""
    weight_decay: Annotated[float, TRAINING] = Field(default=5e-4, ge=0)
    """L2 penalty in SGD, decoupled decay in AdamW."""
    clip: Annotated[float | None, TRAINING] = Field(default=None, gt=0)
    """Largest gradient norm of backbone and joint head; absent: no clipping."""
    ema: Annotated[float | None, TRAINING] = Field(default=None, gt=0, lt=1)
    """Decay per step of an exponential moving average of all weights, which is then measured and exported."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], COMPUTING] = "auto"
    """Precision of the forward pass and of the trail; auto: bf16 on a GPU, else fp32."""
    compile: Annotated[bool, COMPUTING] = False
    """Compile the training step with torch.compile: a slower start, then faster, on a GPU."""
    prefetch: Annotated[int, COMPUTING] = Field(default=4, ge=1)
    """Batches that each worker prepares ahead."""
    evaluate_every: Annotated[int, TRAINING] = Field(default=1, ge=1)
    """Epochs between evaluations; the last epoch is always evaluated."""
    keep_snapshots: Annotated[int, TRAINING] = Field(default=5, ge=1)
    """Number of newest epochs whose complete snapshots are kept; older ones keep only the tail's crumbs."""

    @field_validator("weights", "clip", "ema", "patience", mode="before")
    @classmethod
    def _no_value(cls, value: object) -> object:
        return absent(value)

    @property
    def head_start(self) -> bool:
        """Whether the heads are fitted before the first epoch: if `start` says so, and there is something to keep."""
        return self.start == "head" and not self.frozen and (self.pretrained or self.weights is not None)


Transfer = Literal["auto", "leave out", "none", "emanate", "map", "map, emanate"]
"""How rows of other looks are brought to the deployed backbone's; see `training.refit.transfer`."""

Member = Literal["plain", "balanced"]
"""A linear head that others are averaged with; see `training.refit.members`."""


DeploymentPrior = (
    Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    | Annotated[dict[str, float], Field(min_length=1, max_length=MOST_NAMES)]
)
"""`uniform`, `training`, the name of a stored prior, or weights by class; see `training.refit.deployment`."""


PRIORS = ("uniform", "training")
"""Deployment priors that need no weights."""

PROOF = 1e-3
"""Share of the optimum within which a refit's objective is proven to be by default."""


class RefitSpec(BaseModel):
    """How to make a head from snapshots, and when it may go live; the JSON of `POST /v1/refit`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    transfer: Transfer = "auto"
    """How rows of other looks (older epochs, other backbones) are brought to the deployed backbone's: `emanate`: by the
    difference of a class's means over the images in both (eq. 6); `map`: by a map fitted to the images in both; `map,
    emanate`: both; `none`: they stay; `leave out`: they are not used; `auto`: chosen by cross-validation."""
    members: tuple[Member, ...] = Field(default=("plain", "balanced"), min_length=1, max_length=2)
    """What the head may be an average of; cross-validation chooses the shares, and a share may be 0."""
    target: int | None = Field(default=None, ge=1, le=1_000_000)
    """Rows of each class at most, the newest look first (the paper's n is N / C); absent: all rows."""
    l2: float | Literal["auto"] = "auto"
    """λ of the penalty (λ/2)‖W‖², in units of the features' variance; `auto`: chosen by cross-validation."""
    prior_offset: float | Literal["auto"] = "auto"
    """t of the logit offset −t·log π_y, where π is each class's share of the images; `auto`: chosen by
    cross-validation."""
    deployment_prior: Annotated[DeploymentPrior | None, Parameter(parse=False)] = None
    """How frequent the classes are where the head will answer: `uniform`: all equally; `training`: as among the images
    that are fitted; or a weight for each class; on a server also the name of a stored prior that has them. Absent: as
    the live head has it, at first `uniform`."""
    allow_new_classes: bool = False
    """Add classes of snapshots that the live head does not know, instead of refusing them; those of examples are always
    added."""
    min_examples: int = Field(default=2, ge=1, le=1_000_000)
    """Images that a new class needs; one with fewer is left out and told."""
    classes: Annotated[dict[str, str | None], Parameter(parse=False)] = Field(default={}, max_length=MOST_NAMES)
    """Old names of classes and their new ones, or null: rename, merge (two to one, or one to a class that is there) and
    remove, all at once."""
    aliases: Annotated[dict[str, str | None], Parameter(parse=False)] = Field(default={}, max_length=MOST_NAMES)
    """Other names that snapshots have for a class, and its name; null: their rows are left out. Earlier edits of
    `classes` are added by themselves."""
    use_bundle_snapshots: bool = True
    """Also use the snapshots in the bundle."""
    holdout_fraction: float = Field(default=0.2, gt=0, lt=0.9)
    """Share of each class's new images that is set aside to judge on; without a hold-out, of all its images."""
    gap: Literal["auto"] | float = "auto"
    """Stop the solver once its objective is proven to be within this share of the optimum. `auto`: 0.001; where there
    are too many rows for several folds, it stops as early as for the heads that λ was chosen by, without proof."""
    max_memory: int = Field(default=4 * 2**30, ge=2**20)
    """Memory for the features that are fitted, in bytes; more of them are read from disk on every pass."""
    activate: Literal["never", "if_better", "always"] = "if_better"
    """When the new head goes live by itself."""
    tolerance: float = Field(default=0.01, ge=0, le=1)
    """Recall that a group (many, medium, few) may lose while the new head still counts as better."""
    min_rows: int = Field(default=10, ge=1, le=1_000_000)
    """Judged rows that a group of the live head's classes needs; with fewer the gate says `not measured`."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the folds, the draws and the bootstrap."""

    @property
    def proof(self) -> float:
        """Share of the optimum within which the solver proves its objective to be."""
        return PROOF if self.gap == "auto" else self.gap

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.l2 != "auto" and not 1e-8 <= self.l2 <= 1e3:
            raise ValueError(f"l2: expected auto or 1e-8 … 1e3, got {self.l2}")
        if self.gap != "auto" and not 1e-9 <= self.gap <= 0.1:
            raise ValueError(f"gap: expected auto or 1e-9 … 0.1, got {self.gap}")
        if len(set(self.members)) < len(self.members):
            raise ValueError(f"members: expected each once, got {', '.join(self.members)}")
        if self.prior_offset != "auto" and not -4 <= self.prior_offset <= 4:
            raise ValueError(f"prior_offset: expected auto or -4 … 4, got {self.prior_offset}")
        if isinstance(self.deployment_prior, dict):
            _check_weights(self.deployment_prior)
        return self


def _check_weights(weights: Mapping[str, float]) -> None:
    try:
        check_weights(weights)
    except PriorError as error:
        raise ValueError(f"deployment_prior: {error}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file of settings.

    Raises:
        ConfigError: it is missing, or no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a JSON object of settings ({error})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object of settings, got {type(value).__name__}")
    return value


def read_deployment_prior(value: str) -> str | dict[str, Any]:
    """Return a deployment prior as it is named, or the weights of a JSON file; raises as `read_settings`."""
    return read_settings(Path(value)) if value.endswith(".json") else value
