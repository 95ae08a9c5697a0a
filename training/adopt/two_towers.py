"""Models of two towers, one for images and one for texts, whose features can be compared (CLIP, SigLIP).

    hf-hub:org/name, local-dir:folder     of open_clip, where the folder has open_clip_config.json
    local-dir:folder                      of transformers, where config.json says clip or siglip

A feature is the image tower's, projected into the space of both and divided by its norm, so that the model's own answer
for a class is scale · t · feature, with t the feature of a text. open_clip and transformers are the extra `text`. It
knows nothing of classes or heads.

Letters: N images or texts, D dimensions of the space.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.networks import Backbone, BackboneError, Pixels
from breadcrumbs.training.adopt import pixel_config
from breadcrumbs.training.adopt.opened import AdoptError

Kind = Literal["open_clip", "transformers"]
OPEN_CLIP, CONFIG, PIXELS = "open_clip_config.json", "config.json", "preprocessor_config.json"
TRANSFORMERS = ("clip", "siglip")
"""The kinds of models of transformers that have two towers which we know."""
MOST_BYTES = 2**20
"""Of a model's configuration."""
TEXTS = 64
"""That are computed at once."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

Encode = Callable[[Sequence[str]], Tensor]
"""Takes N texts; returns their features (N, D)."""


@dataclass(frozen=True, eq=False)
class TextTower:
    """The tower for texts.

    Attributes:
        encode: makes features of texts.
        scale: what the model multiplies the product of both features with.
    """

    encode: Encode
    scale: float

    def rows(self, sentences: Sequence[Sequence[str]]) -> Floats:
        """Return a row f32 (C, D) for each of C lists of sentences: their mean feature, of the length `scale`."""
        flat = [text for own in sentences for text in own]
        parts = [flat[first : first + TEXTS] for first in range(0, len(flat), TEXTS)]
        features = torch.cat([normalize(self.encode(part).float(), dim=1) for part in parts])
        means = torch.stack([own.mean(0) for own in torch.split(features, [len(own) for own in sentences])])
        return (self.scale * normalize(means, dim=1)).numpy()


class ImageTower(nn.Module):
    """(N, 3, H, W) -> (N, D) of norm 1, by a tower that projects into the space of both."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features of a batch of images."""
        return normalize(_tensor(self.tower(pixels)), dim=1)


class _Projected(nn.Module):
    """The image tower of a model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        clip = model.config.model_type == "clip"
        self.projection = model.visual_projection if clip else nn.Identity()  # SigLIP has none

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.projection(self.vision_model(pixel_values=pixels).pooler_output)
        return features


def kind_of(name: str) -> Kind | None:
    """Return whose model a folder holds; None: it is no folder, or of something else. Nothing is imported."""
    if not name.startswith("local-dir:"):
        return None
    folder = Path(name.partition(":")[2])
    if (folder / OPEN_CLIP).is_file():
        return "open_clip"
    return "transformers" if _read(folder / CONFIG).get("model_type") in TRANSFORMERS else None


def open_towers(name: str) -> tuple[Backbone, TextTower]:
    """Open both towers of a model, for inference.

    Args:
        name: as above.

    Raises:
        AdoptError: it has no text tower that can be opened, or the extra `text` is not installed.
        BackboneError: its files cannot be had or do not fit.
    """
    kind = kind_of(name) or ("open_clip" if name.startswith("hf-hub:") else None)
    if kind is None:
        raise AdoptError(
            f"{name} has no text tower, which class names need; name a model of open_clip (hf-hub:org/name, or "
            "local-dir: and its folder), or a folder of transformers' CLIP or SigLIP"
        )
    try:
        return _open_clip(name) if kind == "open_clip" else _transformers(Path(name.partition(":")[2]))
    except ImportError as error:
        raise AdoptError(
            f"{name} needs {error.name or kind}, which is not installed: pip install 'breadcrumbs-longtail[text]'"
        ) from error
    except (AdoptError, BackboneError):
        raise
    except Exception as error:  # json, torch, both libraries and the hub's client raise whatever they meet
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackboneError(f"the towers of {name} could not be loaded: {reason}") from error


def _open_clip(name: str) -> tuple[Backbone, TextTower]:
    import open_clip

    model = open_clip.create_model_from_pretrained(name, return_transform=False)
    tokens = open_clip.get_tokenizer(name)
    model.eval().requires_grad_(requires_grad=False)
    given = open_clip.get_model_preprocess_cfg(model)
    size = given["size"]
    sides = (size, size) if isinstance(size, int) else tuple(size)
    mode = given.get("resize_mode", "shortest")
    if len(set(sides)) > 1 or mode not in ("shortest", "squash") or given["interpolation"] not in INTERPOLATIONS:
        raise AdoptError(f"{name} resizes to {size} by {mode}; expected a square by shortest or squash: take another")
    crop = None if mode == "squash" else 1.0
    pixels = Pixels(
        tuple(given["mean"]), tuple(given["std"]), given["interpolation"], crop, f"{OPEN_CLIP} (open_clip)"
    )  # fmt: skip

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        return _tensor(model.encode_text(tokens(list(texts))))

    return _backbone(model.visual, pixels, sides[0]), TextTower(encode, float(model.logit_scale.exp()))


def _transformers(folder: Path) -> tuple[Backbone, TextTower]:
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model.eval().requires_grad_(requires_grad=False)
    found = pixel_config.find(folder / CONFIG, folder / PIXELS)
    if found is None or found.size is None or len(set(found.size)) > 1:
        raise AdoptError(
            f"{folder / PIXELS} does not say a square size; expected that of transformers' image processor"
        )
    length = model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt",
        )  # fmt: skip
        return _tensor(model.get_text_features(**tokens))

    backbone = _backbone(_Projected(model), found.pixels, found.size[0])
    return backbone, TextTower(encode, float(model.logit_scale.exp()))


def _backbone(tower: nn.Module, pixels: Pixels, side: int) -> Backbone:
    network = ImageTower(tower).eval()
    with torch.no_grad():
        width = network(torch.zeros(1, 3, side, side)).shape[1]
    return Backbone(network, width, pixels, side)


def _tensor(given: Any) -> Tensor:
    """Of what a tower returns, the one feature of each input: transformers 5 returns it among others."""
    if isinstance(given, tuple):
        given = given[0]
    found: Tensor = given if isinstance(given, Tensor) else given.pooler_output
    return found


def _read(path: Path) -> dict[str, Any]:
    """The JSON object of a file; empty where there is none."""
    try:
        with open_regular(path) as file:
            found = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
