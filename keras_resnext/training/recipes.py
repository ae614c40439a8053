"""The table of recipes: how networks are trained, a row per published procedure."""

from dataclasses import replace

from keras_resnext.errors import unknown
from keras_resnext.training.recipe import Recipe, read


def get_recipe(name: str) -> Recipe:
    """Return a recipe by its name, or from a file.

    Args:
        name: str, a name that `list_recipes()` has, in any case, or the path of a .json file that
            `recipe.write` has written.

    Raises:
        ValueError: If the name is unknown, or the file holds no recipe.

    Example:
    >>> get_recipe("resnext_cifar").milestones
    (0.5, 0.75)
    """
    if str(name).endswith(".json"):
        return read(name)
    known = {key.lower(): key for key in RECIPES}
    if str(name).lower() not in known:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[known[str(name).lower()]]


def list_recipes() -> list[str]:
    """Return the names of all recipes.

    Example:
    >>> "bag_of_tricks" in list_recipes()
    True
    """
    return list(RECIPES)


_IMAGENET = Recipe(
    about="ImageNet as in the ResNet paper: the rate to a tenth three times.",
    paper="He et al., 2015, section 3.4",
    differs="the rate falls after fixed epochs, not on plateaus; batch norms are not decayed",
    model="ResNet50",
    epochs=120,
    batch_size=256,
    image_size=224,
    augmentation="resized_crop_flip",
    learning_rate=0.1,
    reference_batch=256,
    schedule="step",
    warmup=0.0,
    milestones=(30 / 120, 60 / 120, 90 / 120),
    nesterov=False,
    weight_decay=1e-4,
)
_CIFAR = _IMAGENET.replace(
    about="CIFAR as in the ResNet paper: 64,000 steps.",
    paper="He et al., 2015, section 4.2",
    differs="batch norms are not decayed; no warm-up (the paper: for 110 layers, at 0.01)",
    model="ResNet56",
    epochs=164,
    batch_size=128,
    image_size=32,
    augmentation="shift_flip",
    reference_batch=128,
    learning_rate=0.1,
    milestones=(0.5, 0.75),
)
_COSINE = _IMAGENET.replace(
    schedule="cosine",
    milestones=(),
    warmup=5 / 120,
    network={"zero_gamma": True},
)
_E0 = _COSINE.replace(
    about="Row E0 of the assembled paper: ResNet-50, cosine.",
    paper="Lee et al., 2020, table 4",
    differs="the classifier's bias is not decayed",
    batch_size=1024,
    learning_rate=0.4,
    reference_batch=1024,
    precision="auto",
    network={"zero_gamma": True, "norm_momentum": 0.997},
)
_E1 = _E0.replace(about="Row E1: E0 with ResNet-D.", model="ResNet50D")
_E2 = _E1.replace(about="Row E2: E1 with label smoothing.", label_smoothing=0.1)
_E3 = _E2.replace(
    about="Row E3: E2 with MixUp, longer.", epochs=200, warmup=5 / 200, mixing="mixup1(0.2)"
)
_E4 = _E3.replace(
    about="Row E4: E3 with squeeze-excite.",
    network={**_E3.network, "attention": "se", "attention_bias": False},
)
_E5 = _E4.replace(
    about="Row E5: E4 with DropBlock, longer.",
    epochs=270,
    warmup=5 / 270,
    network={**_E4.network, "drop_block": 0.1},
    drop_ramp=1.0,
)
_E6 = _E5.replace(
    about="Row E6: E5 with selective kernels for squeeze-excite.",
    network={**_E0.network, "drop_block": 0.1, "attention": "sk_assembled"},
)
_E7 = _E6.replace(about="Row E7: E6 with a teacher.", teacher_weight=1.0)
_E8 = _E7.replace(about="Row E8: E7, 600 epochs.", epochs=600, warmup=5 / 600)
_E9 = _E8.replace(
    about="Row E9: E8 with Big-Little, tested at 256.",
    model="BLResNet50",
    test_size=256,
    test_crop=0.875,
)
_E10 = _E9.replace(
    about="Row E10: E9 with anti-aliasing: Assemble-ResNet-50.",
    model="AssembleResNet50",
    network={"drop_block": 0.1},
)
_E11 = _E10.replace(
    about="Row E11: E10 with AutoAugment.", augmentation="resized_crop_flip+autoaugment_imagenet"
)
_E12 = _E11.replace(about="Row E12: E11 with Assemble-ResNet-152.", model="AssembleResNet152")
_A2 = Recipe(
    about='Procedure A2 of "ResNet strikes back": 300 epochs.',
    paper="Wightman et al., 2021, table 2",
    differs="no repeated augmentation; RandAugment's magnitudes do not vary",
    model="ResNet50",
    network={"drop_path": 0.05, "zero_gamma": True},
    epochs=300,
    batch_size=2048,
    image_size=224,
    test_size=224,
    test_crop=0.95,
    augmentation="resized_crop_flip+randaugment7",
    mixing="mixup(0.1)+cutmix(1.0)",
    loss="binary_cross_entropy",
    optimizer="lamb",
    learning_rate=5e-3,
    reference_batch=2048,
    schedule="cosine",
    warmup=5 / 300,
    weight_decay=0.02,
    precision="auto",
)

RECIPES = {
    name: replace(recipe, name=name)
    for name, recipe in {
        "default": Recipe(
            about="AdamW with a cosine, for a few thousand images; what `train` does by default.",
            network={"norm_momentum": 0.8},
            optimizer="adamw",
            schedule="cosine",
            clip_norm=1.0,
        ),
        "sgd": Recipe(
            about="SGD at 0.1, falling in a straight line; the default from pretrained weights.",
            weight_decay=5e-3,
            decoupled=True,
        ),
        "resnet": _IMAGENET,
        "resnext": _IMAGENET.replace(
            about="ImageNet as in the ResNeXt paper's code.",
            paper="Xie et al., 2017, section 4",
            differs="colors are jittered after the crop; batch norms are not decayed",
            model="ResNeXt50",
            epochs=90,
            augmentation="resized_crop_flip+color_jitter",
            milestones=(30 / 90, 60 / 90),
            nesterov=True,
        ),
        "resnet_cifar": _CIFAR,
        "resnext_cifar": _CIFAR.replace(
            about="CIFAR as in the ResNeXt paper: 300 epochs, more decay.",
            paper="Xie et al., 2017, section 5.3",
            differs="batch norms are not decayed",
            model="ResNeXt29_8x64d",
            epochs=300,
            nesterov=True,
            weight_decay=5e-4,
        ),
        "bag_of_tricks": _COSINE.replace(
            about="ResNet-50-D with cosine, label smoothing and MixUp.",
            paper="He et al., 2018, sections 3 to 5",
            differs="no teacher; colors are not jittered",
            model="ResNet50D",
            epochs=200,
            batch_size=1024,
            learning_rate=0.4,
            reference_batch=1024,
            warmup=5 / 200,
            nesterov=True,
            label_smoothing=0.1,
            smoothing_over="others",
            mixing="mixup(0.2)",
        ),
        "e0": _E0,
        "e1": _E1,
        "e2": _E2,
        "e3": _E3,
        "e4": _E4,
        "e5": _E5,
        "e6": _E6,
        "e7": _E7,
        "e8": _E8,
        "e9": _E9,
        "e10": _E10,
        "e11": _E11,
        "e12": _E12,
        "a1": _A2.replace(
            about='Procedure A1 of "ResNet strikes back": 600 epochs.',
            epochs=600,
            warmup=5 / 600,
            mixing="mixup(0.2)+cutmix(1.0)",
            label_smoothing=0.1,
            weight_decay=0.01,
        ),
        "a2": _A2,
        "a3": _A2.replace(
            about='Procedure A3 of "ResNet strikes back": 100 epochs at 160 pixels.',
            differs="RandAugment's magnitudes do not vary",
            network={"zero_gamma": True},
            epochs=100,
            image_size=160,
            augmentation="resized_crop_flip+randaugment6",
            learning_rate=8e-3,
            reference_batch=2048,
            warmup=5 / 100,
        ),
        "adam_l2": Recipe(
            about="Adam with an L2 penalty: the review of ResNeXt's answer to overfitting.",
            optimizer="adam",
            learning_rate=1e-3,
            schedule="cosine",
            weight_decay=1e-3,
        ),
        "fine_tuning": Recipe(
            about="From a checkpoint to another task, as the assembled paper does for Food-101.",
            paper="Lee et al., 2020, section 4.3",
            differs="DropBlock rises from 0; the batch norms' momentum is the network's own",
            model="AssembleResNet50",
            network={"drop_block": 0.3},
            epochs=100,
            batch_size=256,
            augmentation="resized_crop_flip",
            mixing="mixup(0.2)",
            label_smoothing=0.1,
            learning_rate=0.01,
            reference_batch=256,
            schedule="cosine",
            warmup=5 / 100,
            nesterov=False,
            weight_decay=1e-3,
            drop_ramp=1.0,
        ),
    }.items()
}
