"""The named configurations of training: their data, network and schedule.

It knows nothing of how a run is done; what can be configured is `training.config`'s.
"""

from breadcrumbs.training.config import EMBEDDED, STANDARD, ConfigError, TrainConfig

RECIPES: dict[str, TrainConfig] = {
    "demo": TrainConfig(),
    # The whole of Fashion-MNIST; factors 10, 50, 100 and 200 by --imbalance. Its shoes all point one way: no mirror.
    "fashion-mnist-lt": TrainConfig(
        data="fashion-mnist", imbalance=100, augmentation="crop", epochs=60, weight_decay=1e-3, evaluate_every=10
    ),
    # Cao et al. 2019 (LDAM), with our cosine in place of their steps.
    "cifar100-lt": TrainConfig(
        data="cifar100",
        imbalance=100,
        architecture="resnet32",
        size=32,
        epochs=200,
        batch_size=128,
        weight_decay=2e-4,
        workers=2,
    ),
    # The one setting of the paper's release.
    "imagenet-lt-r10": TrainConfig(
        data="ImageNet_LT_train.txt",
        test_data="ImageNet_LT_test.txt",
        architecture="resnet10",
        size=224,
        augmentation="resized-crop",
        epochs=200,
        batch_size=512,
        learning_rate=0.2,
        balanced_learning_rate=0.2,
        workers=16,
    ),
    # 30 epochs from ImageNet's weights, as OLTR and those after it.
    "places-lt-r152": TrainConfig(
        data="Places_LT_train.txt",
        test_data="Places_LT_test.txt",
        architecture="resnet152",
        pretrained=True,
        size=224,
        augmentation="resized-crop",
        epochs=30,
        batch_size=256,
        learning_rate=0.01,
        workers=16,
    ),
    # Kang et al. 2020 (Decoupling), 200 epochs.
    "inat18-r50": TrainConfig(
        data="iNaturalist18_train.txt",
        test_data="iNaturalist18_val.txt",
        architecture="resnet50",
        size=224,
        augmentation="resized-crop",
        interpolation="bilinear",  # of random weights nothing follows for the pixels: the usual ones
        crop=0.875,
        epochs=200,
        batch_size=512,
        learning_rate=0.2,
        balanced_learning_rate=0.2,
        weight_decay=1e-4,
        workers=16,
    ),
    # Your own folder, from pretrained weights: --data photos, and any timm name as --architecture.
    "finetune": TrainConfig(
        data="photos",
        architecture="resnet50",
        pretrained=True,
        size=224,
        augmentation="resized-crop",
        start="head",
        epochs=10,
        patience=3,
        batch_size=64,
        optimizer="adamw",
        learning_rate=5e-5,
        balanced_learning_rate=2e-4,
        weight_decay=0.05,
        workers=4,
    ),
}
"""Named configurations; `docs/training.md` holds each one's claim: command, machine, time, accuracy. Where the data
cannot be known, `data` is the name under which the field, or its example, has it."""


def recipe_for(data: str | None) -> str:
    """Return the recipe for data by default: `finetune` for images of one's own, `demo` for the sets known by name."""
    return "demo" if data in (None, EMBEDDED, *STANDARD) else "finetune"


def recipe(name: str) -> TrainConfig:
    """Look up a recipe.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe '{name}'; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
