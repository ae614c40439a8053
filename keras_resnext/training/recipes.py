"""How to train: frozen, self-validating recipes, and the table of them.

A recipe is data: it inherits from another by ``replace`` and overrides what differs. Nothing here
imports Keras or TensorFlow, so that a wrong field is said at once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from keras_resnext.data.datasets import Dataset
from keras_resnext.data.images import ON_ERROR
from keras_resnext.data.parts import SMOOTHINGS
from keras_resnext.errors import one_of, unknown
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "auto")
OPTIMIZERS = ("sgd", "adam", "adamw", "lamb")
SCHEDULES = ("linear", "cosine", "step")
LOSSES = ("cross_entropy", "binary_cross_entropy")
LEARNING_RATE, LARGE_BATCH = 0.1, 256
# Of any family: a recipe may be for several, each of which takes what it has.
NETWORK_FIELDS = sorted({f.name for kind in (ResNetConfig, InceptionConfig) for f in fields(kind)})
# Not for users to override: they say what a recipe is, not what it does.
DESCRIPTION = ("name", "about", "paper", "differs", "model", "network")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; None where the data set, the network or another field decides.

    Args:
        name: Of its row in the table.
        about: One line on what it is.
        paper: Where it was published.
        differs: What it leaves out of the published one, or does otherwise.
        model: The network it was published with, a name that ``list_models()`` gives.
        network: Fields of that network's configuration, and their values.
        epochs: Passes over the training part. Default: the data set's own.
        batch_size: Images an update of the weights, at most those of the training part. Default:
            the data set's own.
        accumulate: The parts that a batch is computed in, one after the other; their gradients are
            averaged. Batch norm sees the parts.
        image_size: Edge of the training images, pixels. Default: the network's own.
        test_size: Edge of the test images, pixels. Default: that of the training images.
        test_crop: Share of the shorter side of a test image that is seen. Default: 0.875 where
            training crops at random, else 1.
        augmentation: Name of a row of ``data.augment.AUGMENTATIONS``, several joined by "+", or the
            path of a policy file. Default: the data set's own.
        mixing: What batches are mixed by, as ``data.mixing.parse_mixing`` reads it.
        loss: "cross_entropy", or "binary_cross_entropy": each class by itself, and those that a
            mixed image has more than a fifth of all count as there ("ResNet strikes back").
        label_smoothing: Share of each training label that is spread evenly.
        smoothing_over: Over "all" classes (Szegedy et al., 2015, and most since), or the "others"
            alone (He et al., 2018).
        optimizer: "sgd" (with momentum), "adam", "adamw", or "lamb" (layer-wise steps, for large
            batches).
        learning_rate: The highest, after the warm-up. Default: 0.1, the ResNet paper's, and in
            proportion above its batch of 256.
        reference_batch: The batch that ``learning_rate`` is meant for: with another, it is changed
            in proportion (the linear rule of "Accurate, Large Minibatch SGD", section 2.1). None:
            it is taken as it is.
        schedule: "linear" or "cosine", down to 0 at the last step; or "step". Where there is time
            for few epochs the linear one ends best ("Budgeted Training", Li et al., 2020).
        warmup: Share of all steps in which the learning rate rises from 0.
        milestones: For "step": the shares of all steps after which the rate falls to a tenth.
        momentum: Of "sgd".
        nesterov: Whether that is Nesterov's.
        weight_decay: Decoupled from the loss: each step takes ``learning_rate * weight_decay`` of
            what is decayed away ("lamb": before the layer's step is scaled). With SGD and a
            momentum of 0.9 it does what an ``l2`` of ``weight_decay / 20`` does.
        l2: Of ``keras.regularizers.L2``: adds ``l2 * |w|^2`` to the loss. Half of what papers
            and PyTorch call weight decay.
        decay_vectors: Whether batch norms and biases are decayed like the kernels.
        clip_norm: Largest norm of all gradients together.
        ema: Share that an average of the weights keeps at each update; 0 keeps no average. The
            average is what is tested and saved.
        drop_ramp: Share of all steps over which DropBlock and stochastic depth rise to their
            rates; 0: constant.
        teacher: Path of a saved model to learn from.
        teacher_weight: Of the loss against the teacher. Default: 1 with a teacher, else 0.
        teacher_stored: Whether the teacher answers once for each training image, as it is, and the
            answers are kept; else it sees the images as the student does.
        temperature: That both are softened by.
        precision: The dtype policy that the network is built under; "auto": what the device is
            fast at.
        remat: Whether activations are computed a second time for the gradient in place of being
            kept: less memory and more time (see ``remat_model``).
        freeze: The last stage that stays as it is, 0 for the stem alone; None freezes nothing.
        stage_decay: What each stage's learning rate is of the one's above it, from the classifier
            down (see ``training.optimizers``).
        cache: What is kept of the images between epochs: "auto", "memory", "encoded", a folder, or
            False: see ``data.cache.plan_cache``.
        memory_budget: Bytes that may be kept in memory. Default: 60 % of what is free.
        on_error: "raise", or "skip" images that cannot be decoded.
        deterministic: Whether a run on the same machine repeats bit for bit, at some cost in speed.
        seed: Of the initial weights, the order of images and their augmentation.

    Raises:
        ValueError: For a value that cannot be.

    Example:

    >>> get_recipe("a3").replace(epochs=10).optimizer
    'lamb'
    >>> Recipe(epochs=0)
    Traceback (most recent call last):
    ValueError: Invalid value for `epochs`. Expected an integer of at least 1. Received: epochs=0
    """

    name: str = "default"
    about: str = ""
    paper: str = ""
    differs: str = ""
    model: str | None = None
    network: Mapping = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    image_size: int | None = None
    test_size: int | None = None
    test_crop: float | None = None
    augmentation: str | None = None
    mixing: str = "none"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    smoothing_over: str = "all"
    optimizer: str = "sgd"
    learning_rate: float | None = None
    reference_batch: int | None = None
    schedule: str = "linear"
    warmup: float = 0.1
    milestones: tuple[float, ...] = ()
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-3
    l2: float = 0.0
    decay_vectors: bool = False
    clip_norm: float | None = None
    ema: float = 0.0
    drop_ramp: float = 0.0
    teacher: str | None = None
    teacher_weight: float | None = None
    teacher_stored: bool = False
    temperature: float = 1.0
    precision: str = "float32"
    remat: bool = False
    freeze: int | None = None
    stage_decay: float = 1.0
    cache: str | bool = "auto"
    memory_budget: int | None = None
    on_error: str = "raise"
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self):
        for key, (holds, expected) in RULES.items():
            value = getattr(self, key)
            if not holds(value):
                raise ValueError(
                    f"Invalid value for `{key}`. Expected {expected}. Received: {key}={value!r}"
                )
        for key in self.network:
            if key not in NETWORK_FIELDS:
                raise ValueError(unknown("field of the model", key, NETWORK_FIELDS))
        for key, valid in CHOICES.items():
            if getattr(self, key) not in valid:
                raise ValueError(unknown(key, getattr(self, key), valid))
        for key in ("nesterov", "decay_vectors", "teacher_stored", "remat", "deterministic"):
            one_of(key, getattr(self, key), (True, False))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for key in ("teacher", "cache"):
            if isinstance(getattr(self, key), Path):
                object.__setattr__(self, key, str(getattr(self, key)))
        for wrong, message in self._impossible():
            if wrong:
                raise ValueError(message)

    def _impossible(self):
        yield (
            bool(self.milestones) and self.schedule != "step",
            f'`milestones` are of schedule="step". Received: schedule="{self.schedule}"',
        )
        yield (
            self.stage_decay != 1 and self.optimizer != "sgd",
            f'`stage_decay` needs optimizer="sgd". Received: optimizer="{self.optimizer}"',
        )
        yield (
            self.reference_batch is not None and self.learning_rate is None,
            "`reference_batch` is the batch of a `learning_rate`: give both. Received: "
            f"reference_batch={self.reference_batch}",
        )
        yield (
            self.batch_size is not None and self.batch_size % self.accumulate != 0,
            f"`accumulate` divides the batch, without a rest. Received: "
            f"batch_size={self.batch_size}, accumulate={self.accumulate}",
        )
        yield (
            self.teacher is not None and self.loss != "cross_entropy",
            'A teacher\'s answers are probabilities: use loss="cross_entropy".',
        )

    @property
    def step_batch(self) -> int:
        """Images a step; ``accumulate`` steps are one update. Of a resolved recipe."""
        return self.batch_size // self.accumulate

    @property
    def distilled(self) -> float:
        """The weight of the loss against a teacher."""
        if self.teacher_weight is None:
            return 1.0 if self.teacher else 0.0
        return self.teacher_weight

    def replace(self, **overrides) -> "Recipe":
        """Give the recipe with some fields changed.

        A ``learning_rate`` that is given without a ``reference_batch`` is taken as it is.

        Raises:
            ValueError: For an unknown field, with the nearest one, or a wrong value.
        """
        known = [f.name for f in fields(self)]
        for name in overrides:
            if name not in known:
                raise ValueError(unknown("recipe field", name, known))
        if overrides.get("learning_rate") is not None:
            overrides = {"reference_batch": None, **overrides}
        return replace(self, **overrides)

    def resolved(self, dataset: Dataset) -> "Recipe":
        """Fill in what the data set decides.

        Args:
            dataset: From ``load_dataset``.

        Returns:
            A Recipe that says the epochs, batch, learning rate and augmentation; its rate is for
            its batch.

        Raises:
            ValueError: If it wants a teacher and has none.
        """
        self.check_teacher()
        batch_size = min(self.batch_size or dataset.batch_size, len(dataset.train))
        batch_size = max(batch_size - batch_size % self.accumulate, self.accumulate)
        return replace(
            self,
            epochs=self.epochs or dataset.epochs,
            batch_size=batch_size,
            learning_rate=self._learning_rate(batch_size),
            reference_batch=None,
            augmentation=self.augmentation or dataset.augmentation,
        )

    def check_teacher(self) -> None:
        """Refuse a recipe whose teacher is not there.

        Raises:
            ValueError: If it wants a teacher and has none, or the file does not exist.
        """
        if not self.distilled:
            return
        if not self.teacher:
            raise ValueError(
                f'The recipe "{self.name}" learns from a teacher, and none is given. Name one '
                "(--teacher FILE), or do without (--set teacher_weight=0)."
            )
        if not Path(self.teacher).exists():
            raise ValueError(
                f'The teacher "{self.teacher}" is not there. Expected a .keras file, or a run.'
            )

    def _learning_rate(self, batch_size: int) -> float:
        if self.learning_rate is None:
            return LEARNING_RATE * max(1, batch_size / LARGE_BATCH)
        return self.learning_rate * batch_size / (self.reference_batch or batch_size)

    def smoke(self) -> "Recipe":
        """Give the same recipe for a network, images and a time that are tiny: to try it out.

        Raises:
            ValueError: For a network that is none of the residual ones.
        """
        model = self.model or "ResNeXt50"
        return replace(
            self,
            model=model,
            network={**self.network, **_tiny(model, self.network)},
            epochs=2,
            batch_size=16 * self.accumulate,
            image_size=64,
            test_size=self.test_size and 96,
        )


def _tiny(model: str, changed: Mapping) -> dict:
    """The fields that make a residual network tiny, whatever its options."""
    config = None if model.lower().startswith("keras:") else variants.get(model).config
    if not isinstance(config, ResNetConfig):
        raise ValueError(
            f'"{model}" has no tiny form to try a recipe with. Expected a residual network, such '
            "as ResNet50."
        )
    fields = {"blocks": (1, 1, 1, 1), "filters": (8, 16, 16, 32), "stem_filters": 8}
    if config.big_little:  # whose stages have two branches
        fields["blocks"] = (2, 2, 2, 1)
    if config.cardinality > 1:
        fields |= {"cardinality": 4, "width_per_group": 16}
    # Statistics over thousands of steps would still be those of the start.
    momentum = min(changed.get("norm_momentum", config.norm_momentum), 0.9)
    return {**fields, "drop_block_size": 3, "norm_momentum": momentum}


def get_recipe(name: str) -> Recipe:
    """Give the recipe of that name, or in that file.

    Args:
        name: Of a row of ``RECIPES``, or the path of a .json file that ``write`` has written.

    Raises:
        ValueError: For an unknown name, with the nearest, or a file that holds no recipe.

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


def split_overrides(given: Mapping) -> tuple[dict, dict]:
    """Tell fields of a recipe from fields of a network's configuration.

    Args:
        given: Names and values. What is no field of a recipe is left to the configuration.

    Returns:
        The one and the other.

    Example:

    >>> split_overrides({"ema": 0.99, "cardinality": 8})
    ({'ema': 0.99}, {'cardinality': 8})
    """
    own = {f.name for f in fields(Recipe)} - set(DESCRIPTION)
    recipe = {name: value for name, value in given.items() if name in own}
    return recipe, {name: value for name, value in given.items() if name not in own}


def check_overrides(network: Mapping, config) -> None:
    """Refuse what is a field neither of a recipe nor of a network's configuration.

    Args:
        network: From ``split_overrides``.
        config: The network's configuration.

    Raises:
        ValueError: With the nearest field of both.
    """
    own = [f.name for f in fields(Recipe) if f.name not in DESCRIPTION]
    valid = [*own, *(f.name for f in fields(config))]
    for name in network:
        if name not in valid:
            raise ValueError(unknown("field of the recipe or the model", name, valid))


def list_recipes() -> list[str]:
    """Give the names of all recipes.

    Example:

    >>> "bag_of_tricks" in list_recipes()
    True
    """
    return list(RECIPES)


def read(path: str | Path) -> Recipe:
    """Read a recipe that ``write`` has written.

    Args:
        path: Of a .json file.

    Raises:
        ValueError: If it cannot be read, or holds no recipe.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read as a recipe: {error}') from error
    if not isinstance(data, dict):
        raise ValueError(f'"{path}" holds no recipe. Expected a JSON object of its fields.')
    return from_fields(data)


def write(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as JSON: the fields that are not the default's.

    Args:
        recipe: To be written.
        path: Of a .json file.
    """
    Path(path).write_text(json.dumps(changes(recipe), indent=2) + "\n", encoding="utf-8")


def from_fields(data: Mapping) -> Recipe:
    """Make a recipe of what JSON gave back.

    Args:
        data: Fields and their values.

    Raises:
        ValueError: For an unknown field, with the nearest, or a wrong value.
    """
    data = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    network = data.get("network", {})
    if not isinstance(network, Mapping):
        raise ValueError(f"Invalid value for `network`. Expected fields. Received: {network!r}")
    network = {key: tuple(v) if isinstance(v, list) else v for key, v in network.items()}
    known = [f.name for f in fields(Recipe)]
    for name in data:
        if name not in known:
            raise ValueError(unknown("recipe field", name, known))
    return Recipe(**{**data, "network": network})


def changes(recipe: Recipe) -> dict:
    """Give the fields in which a recipe differs from the default, and its name.

    Example:

    >>> changes(Recipe(name="mine", epochs=3))
    {'name': 'mine', 'epochs': 3}
    """
    own, default = asdict(recipe), asdict(Recipe())
    return {key: own[key] for key in own if key == "name" or own[key] != default[key]}


def _integer(least: int):
    return lambda value: type(value) is int and value >= least


def _number(low: float, high: float):
    """From low, included, to high, not included."""
    return lambda value: type(value) in (int, float) and low <= value < high


def _or_none(holds):
    return lambda value: value is None or holds(value)


def _rising(values) -> bool:
    within = isinstance(values, tuple | list) and all(_number(1e-9, 1)(v) for v in values)
    return within and list(values) == sorted(set(values))


_INFINITE = float("inf")
_TEXT = lambda value: isinstance(value, str)  # noqa: E731
RULES = {
    "name": (_TEXT, "text"),
    "model": (_or_none(_TEXT), "the name of a model"),
    "augmentation": (_or_none(_TEXT), "names, joined by +"),
    "mixing": (_TEXT, "names, joined by +"),
    "teacher": (_or_none(lambda value: isinstance(value, str | Path)), "a file, or a run's folder"),
    "cache": (lambda value: isinstance(value, str | bool | Path), "text, or False"),
    "network": (lambda value: isinstance(value, Mapping), "fields of a configuration"),
    "epochs": (_or_none(_integer(1)), "an integer of at least 1"),
    "batch_size": (_or_none(_integer(1)), "an integer of at least 1"),
    "accumulate": (_integer(1), "an integer of at least 1"),
    "image_size": (_or_none(_integer(8)), "at least 8, pixels"),
    "test_size": (_or_none(_integer(8)), "at least 8, pixels"),
    "test_crop": (_or_none(lambda v: _number(0.1, 1)(v) or v == 1), "a number from 0.1 to 1"),
    "label_smoothing": (_number(0, 1), "a number from 0 to below 1"),
    "learning_rate": (_or_none(_number(1e-12, _INFINITE)), "a number above 0"),
    "reference_batch": (_or_none(_integer(1)), "an integer of at least 1"),
    "warmup": (_number(0, 1), "a number from 0 to below 1"),
    "milestones": (_rising, "rising numbers between 0 and 1"),
    "momentum": (_number(0, 1), "a number from 0 to below 1"),
    "weight_decay": (_number(0, _INFINITE), "a number of at least 0"),
    "l2": (_number(0, _INFINITE), "a number of at least 0"),
    "clip_norm": (_or_none(_number(1e-12, _INFINITE)), "a number above 0"),
    "ema": (_number(0, 1), "a number from 0 to below 1"),
    "drop_ramp": (lambda v: _number(0, 1)(v) or v == 1, "a number from 0 to 1"),
    "teacher_weight": (_or_none(_number(0, _INFINITE)), "a number of at least 0"),
    "temperature": (_number(1e-3, _INFINITE), "a number above 0"),
    "freeze": (_or_none(lambda value: value in range(5)), "a stage from 0 to 4"),
    "stage_decay": (lambda value: value == 1 or _number(1e-6, 1)(value), "a number to 1"),
    "memory_budget": (_or_none(_integer(0)), "an integer of at least 0, bytes"),
    "seed": (_integer(0), "an integer of at least 0"),
}
CHOICES = {
    "precision": PRECISIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "smoothing_over": SMOOTHINGS,
    "on_error": ON_ERROR,
}


# The papers' weight decay of 1e-4 is a penalty of 1e-4 / 2 * |w|^2.
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
    weight_decay=0.0,
    l2=5e-5,
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
        "default": Recipe(about="What `train` does unless it is told otherwise."),
        "resnet": _IMAGENET,
        "resnext": _IMAGENET.replace(
            about="ImageNet as in the ResNeXt paper's code.",
            paper="Xie et al., 2017, section 4",
            differs="colours are jittered after the crop; batch norms are not decayed",
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
            l2=2.5e-4,
        ),
        "bag_of_tricks": _COSINE.replace(
            about="ResNet-50-D with cosine, label smoothing and MixUp.",
            paper="He et al., 2018, sections 3 to 5",
            differs="no teacher; colours are not jittered",
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
            weight_decay=0.0,
            l2=5e-4,
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
            weight_decay=0.0,
            l2=5e-4,
            drop_ramp=1.0,
        ),
    }.items()
}
