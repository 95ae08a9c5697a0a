"""A small network of timm, as users have theirs: in a folder, and as a file of weights."""

from pathlib import Path

import timm
import torch
from timm.models import save_for_hf

NAME, SIDE, WIDTH = "test_resnet", 32, 96


def write_folder(folder: Path) -> Path:
    """Write config.json and weights, as timm writes them for the hub."""
    torch.manual_seed(0)
    save_for_hf(timm.create_model(NAME), str(folder), model_config={"num_classes": 1000})
    return folder


def write_weights(folder: Path, path: Path) -> Path:
    """Write the same weights as a state dict."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    torch.save(network.state_dict(), path)
    return path
