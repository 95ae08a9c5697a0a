"""Small models of two towers with random weights, in folders as open_clip and transformers write them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SIDE, WIDTH = 32, 16
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def write_open_clip(folder: Path) -> Path:
    """Write a CLIP of open_clip, whose tokenizer is the library's own."""
    import open_clip

    torch.manual_seed(0)
    model_cfg = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    pixels = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": pixels}))
    network = open_clip.CLIP(
        WIDTH, open_clip.CLIPVisionCfg(**model_cfg["vision_cfg"]), open_clip.CLIPTextCfg(**model_cfg["text_cfg"])
    )
    save_file({name: value.contiguous() for name, value in network.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    return folder


def write_transformers(folder: Path, kind: str) -> Path:
    """Write a `clip` or `siglip` of transformers, with a tokenizer that knows the letters."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    letters = ["<pad>", "<unk>", "<end>", *"abcdefghijklmnopqrstuvwxyz0123456789_"]
    tokenizer = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate(letters)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )
    fast.save_pretrained(folder)
    vision = {"image_size": SIDE, "patch_size": 16, "hidden_size": 32, "intermediate_size": 32,
              "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": len(letters), "max_position_embeddings": 24, "eos_token_id": 2, "pad_token_id": 0,
            "bos_token_id": 2}  # fmt: skip
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
        transformers.CLIPModel(config).save_pretrained(folder)
    else:
        text["projection_size"] = 32
        transformers.SiglipModel(
            transformers.SiglipConfig(text_config=text, vision_config=vision)
        ).save_pretrained(folder)  # fmt: skip
    pixels = {"do_resize": True, "size": {"shortest_edge": SIDE}, "do_center_crop": True,
              "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3, "image_mean": MEAN, "image_std": STD,
              "do_normalize": True, "do_rescale": True}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return folder
