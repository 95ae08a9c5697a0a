"""What `adopt` is told: the settings of images that training has too, and how a backbone is opened.

It imports no torch. Every field is a flag of the command line; the text below a field is its help.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

from breadcrumbs.training.config import ImageConfig, PixelConfig, TrainConfig, absent

Pool = Literal["cls", "mean"]
LARGEST = 4096
"""Largest side of a network's input, in pixels."""


class BackboneConfig(PixelConfig):
    """How a backbone is opened that is there already."""

    architecture: str | None = None
    """The timm network that a `.pth` or `.safetensors` file has the weights of."""
    output: str | None = None
    """Of an ONNX file: the name of the output to use, where it has several."""
    pool: Pool | None = None
    """Of an ONNX file whose output is one vector for each patch: `cls`: the first; `mean`: their mean; absent: `cls`
    where there is one patch more than a square has."""
    preprocessing: Path | None = None
    """A `config.json` or `preprocessor_config.json` with the preprocessing of an ONNX file; absent: the one beside it,
    if there is one."""
    size: int | None = Field(default=None, ge=1, le=LARGEST)
    """Side of the square input, in pixels; absent: the size that the network was made for."""

    @field_validator("architecture", "output", "pool", "preprocessing", "size", mode="before")
    @classmethod
    def _no_value(cls, value: object) -> object:
        return absent(value)


class AdoptConfig(BackboneConfig, ImageConfig):
    """Everything that decides a bundle around such a backbone."""

    looks: int = Field(default=0, ge=0, le=100)
    """Augmented passes over the training images besides the clean one; cross-validation chooses how they are used."""
    augmentation: Literal["crop-flip", "crop", "flip", "resized-crop"] = "flip"
    """Of the augmented passes; as for `train`."""
    batch_size: int = Field(default=16, ge=1)
    """Images in one pass through the backbone."""
    class_names: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None
    """Start from the names of the classes, by the backbone's text tower: the sentences that a name is put into, in
    place of `{}`; without any, `a photo of a {}`."""
    class_text: Path | None = None
    """CSV file (`class,text`) of other words for classes than their names; a class without images becomes one of the
    head."""

    @field_validator("class_names")
    @classmethod
    def _sentences(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if any("{}" not in template for template in value or ()):
            raise ValueError("expected {} where the name belongs")
        return value

    @property
    def named(self) -> bool:
        """Whether the head starts from the names of the classes."""
        return self.class_names is not None or self.class_text is not None

    def recipe(self, architecture: str, side: int, epochs: int) -> TrainConfig:
        """Return these settings as a bundle's recipe, from which `evaluate` and `snapshot` find the images.

        Args:
            architecture: what the backbone is called.
            side: of its input, in pixels.
            epochs: the epoch of the bundle's newest snapshot.
        """
        shared = {field: getattr(self, field) for field in (*ImageConfig.model_fields, "augmentation")}
        return TrainConfig.model_validate(
            shared
            | {"architecture": architecture, "size": side, "frozen": True, "method": "plain", "epochs": epochs}
            | {"batch_size": max(2, self.batch_size)}
        )
