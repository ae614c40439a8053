"""A recipe: how to train, as frozen fields that check themselves.

Nothing here imports Keras or TensorFlow, so that a wrong field is reported at once.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

from keras_resnext.checks import Rule, check_fields, choice, flag, integer, number, optional
from keras_resnext.data.datasets import Dataset
from keras_resnext.data.images import ON_ERROR
from keras_resnext.data.parts import SMOOTHINGS
from keras_resnext.errors import unknown
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig

# The default learning rate, for a batch of 64, and decoupled weight decay of each optimizer.
OWN_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 3e-3, "lamb": 5e-3}
OWN_DECAYS = {"sgd": 5e-3, "adam": 5e-3, "adamw": 0.05, "lamb": 0.02}
# Those of all families: each network takes the fields that it has.
NETWORK_FIELDS = sorted({f.name for kind in (ResNetConfig, InceptionConfig) for f in fields(kind)})


def _text() -> Rule:
    return Rule("text", lambda value: isinstance(value, str))


def _text_or_path(expected: str) -> Rule:
    return Rule(expected, lambda value: isinstance(value, str | Path))


def _are_milestones(values: object) -> bool:
    inside = number(above=0, below=1).holds
    if not isinstance(values, tuple | list) or not all(inside(value) for value in values):
        return False
    return list(values) == sorted(set(values))


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a recipe is, and what it is for.

    Attributes:
        name: str, the name of its row in the table.
        about: str, a one-line description.
        paper: str, where it was published.
        differs: str, how it differs from the publication.
        model: str, the network it was published with, a name that `list_models()` has.
        network: Mapping from fields of that network's configuration to their values.
    """

    name: str = "default"
    about: str = ""
    paper: str = ""
    differs: str = ""
    model: str | None = None
    network: Mapping = field(default_factory=dict)

    RULES: ClassVar[Mapping[str, Rule]] = {
        "name": _text(),
        "model": optional(Rule("the name of a model", lambda value: isinstance(value, str))),
        "network": Rule("fields of a configuration", lambda value: isinstance(value, Mapping)),
    }


@dataclass(frozen=True, kw_only=True)
class Images:
    """What the network sees.

    Attributes:
        image_size: int, edge of the training images in pixels. Default: the network's own.
        test_size: int, edge of the test images in pixels. Default: that of the training images.
        test_crop: float, the share of a test image's shorter side that is seen. Default: 0.875 if
            training crops at random, else 1.
        augmentation: str, the name of a row of `data.augment.AUGMENTATIONS`, several joined by
            "+", or the path of a policy file. Default: the data set's own.
        mixing: str, how images of a batch are mixed: see `data.mixing.parse_mixing`.
    """

    image_size: int | None = None
    test_size: int | None = None
    test_crop: float | None = None
    augmentation: str | None = None
    mixing: str = "none"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "image_size": optional(integer(8)),
        "test_size": optional(integer(8)),
        "test_crop": optional(number(0.1, 1)),
        "augmentation": optional(_text()),
        "mixing": _text(),
    }


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How long training takes, and in which batches.

    Attributes:
        epochs: int, passes over the training images. Default: the data set's own.
        batch_size: int, images per update of the weights, at most all training images. Default:
            the data set's own.
        accumulate: int, number of parts in which a batch is computed; their gradients are averaged.
            Batch norm sees the parts.
    """

    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int = 1

    RULES: ClassVar[Mapping[str, Rule]] = {
        "epochs": optional(integer(1)),
        "batch_size": optional(integer(1)),
        "accumulate": integer(1),
    }


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is minimized.

    Attributes:
        loss: str, "cross_entropy", or "binary_cross_entropy" of each class separately, where labels
            of mixed images above 0.2 count as 1 ("ResNet strikes back").
        label_smoothing: float, the share of each training label that is spread evenly.
        smoothing_over: str, over "all" classes (Szegedy et al., 2015, and most since), or only the
            "others" (He et al., 2018).
    """

    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    smoothing_over: str = "all"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "loss": choice(("cross_entropy", "binary_cross_entropy")),
        "label_smoothing": number(0, below=1),
        "smoothing_over": choice(SMOOTHINGS),
    }


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How the weights follow the gradient, and how fast.

    Attributes:
        optimizer: str, "sgd" (with momentum), "adam", "adamw", or "lamb" (layer-wise steps, for
            large batches).
        learning_rate: float, the highest, after the warm-up. Default: 0.1 for "sgd" (the ResNet
            paper's), scaled up in proportion above a batch of 256; 1e-3 for "adam", 3e-3 for
            "adamw" and 5e-3 for "lamb" at a batch of 64, in proportion to the square root of the
            batch ("On the SDEs and Scaling Rules for Adaptive Gradient Algorithms").
        reference_batch: int, the batch size that `learning_rate` is meant for; for others it is
            scaled in proportion ("Accurate, Large Minibatch SGD", section 2.1). Default: it is not
            scaled.
        schedule: str, "linear" or "cosine", down to 0 at the last step; or "step". "linear" is best
            for few epochs ("Budgeted Training", Li et al., 2020).
        warmup: float, the share of all steps in which the learning rate rises from 0.
        milestones: tuple of float, for "step": the shares of all steps after which the learning
            rate falls to a tenth.
        momentum: float, momentum of "sgd".
        nesterov: bool, whether "sgd" uses Nesterov's momentum.
        clip_norm: float, the largest norm of all gradients together.
        ema: float, the share that a moving average of the weights keeps at each update; 0 for no
            average. The average is what is tested and saved.
    """

    optimizer: str = "sgd"
    learning_rate: float | None = None
    reference_batch: int | None = None
    schedule: str = "linear"
    warmup: float = 0.1
    milestones: tuple[float, ...] = ()
    momentum: float = 0.9
    nesterov: bool = True
    clip_norm: float | None = None
    ema: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "optimizer": choice(("sgd", "adam", "adamw", "lamb")),
        "learning_rate": optional(number(above=0)),
        "reference_batch": optional(integer(1)),
        "schedule": choice(("linear", "cosine", "step")),
        "warmup": number(0, below=1),
        "milestones": Rule("rising numbers between 0 and 1", _are_milestones),
        "momentum": number(0, below=1),
        "nesterov": flag(),
        "clip_norm": optional(number(above=0)),
        "ema": number(0, below=1),
    }


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """What keeps the weights small, and the network from relying on few of them.

    Attributes:
        weight_decay: float, as papers and PyTorch print it: 1e-4 for ImageNet. Default: 5e-3 for
            "sgd" and "adam", 0.05 for "adamw", 0.02 for "lamb", decoupled.
        decoupled: bool. False: the decay is added to the gradient, as an L2 penalty of half the
            weight decay in the loss. True: each step subtracts `learning_rate * weight_decay` times
            the weight ("lamb": before the layer's step is scaled). Default: as in the optimizer's
            paper, False for "sgd" and "adam", True for "adamw" and "lamb".
        decay_vectors: bool, whether batch norms and biases are decayed like the kernels.
        drop_ramp: float, the share of all steps over which DropBlock and stochastic depth rise to
            their rates; 0 for constant rates.
    """

    weight_decay: float | None = None
    decoupled: bool | None = None
    decay_vectors: bool = False
    drop_ramp: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "weight_decay": optional(number(0)),
        "decoupled": optional(flag()),
        "decay_vectors": flag(),
        "drop_ramp": number(0, 1),
    }


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How far pretrained weights change.

    Attributes:
        freeze: int, the last frozen stage, 0 for the stem alone; None freezes nothing.
        stage_decay: float, the learning rate of each stage as a share of the one above it, down
            from the classifier.
    """

    freeze: int | None = None
    stage_decay: float = 1.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "freeze": optional(integer(0, 4)),
        "stage_decay": number(1e-6, 1),
    }


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """What is learned from another network.

    Attributes:
        teacher: str, path of the teacher's .keras file, or of its run's folder.
        teacher_weight: float, the weight of the loss against the teacher. Default: 1 with a
            teacher, else 0.
        teacher_stored: bool, whether the teacher's answers are computed once, for images without
            augmentation, and stored; otherwise it sees the images as the student does.
        temperature: float, the divisor of both networks' logits.
    """

    teacher: str | None = None
    teacher_weight: float | None = None
    teacher_stored: bool = False
    temperature: float = 1.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "teacher": optional(_text_or_path("a file, or a run's folder")),
        "teacher_weight": optional(number(0)),
        "teacher_stored": flag(),
        "temperature": number(1e-3),
    }


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Precision, memory and reproducibility on a machine.

    Attributes:
        precision: str, the dtype policy that the network is built under; "auto": what the device
            is fast at.
        remat: bool, whether activations are computed again for the gradient instead of stored,
            which takes less memory and more time (see `remat_model`).
        cache: How images are cached between epochs: "auto", "memory", "encoded", a folder, or
            False: see `data.cache.plan_cache`.
        memory_budget: int, bytes of memory for images. Default: 60 % of what is free.
        on_error: str, "raise", or "skip" images that cannot be decoded.
        deterministic: bool, whether a run on the same machine repeats bit for bit, at some cost
            in speed.
        seed: int, seed of the initial weights, the order of images and their augmentation.
    """

    precision: str = "float32"
    remat: bool = False
    cache: str | bool = "auto"
    memory_budget: int | None = None
    on_error: str = "raise"
    deterministic: bool = False
    seed: int = 0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "precision": choice(("float32", "mixed_float16", "mixed_bfloat16", "auto")),
        "remat": flag(),
        "cache": Rule("text, or False", lambda value: isinstance(value, str | bool | Path)),
        "memory_budget": optional(integer(0)),
        "on_error": choice(ON_ERROR),
        "deterministic": flag(),
        "seed": integer(0),
    }


SECTIONS = (Description, Images, Batches, Loss, Optimizer, Regularization, FineTuning)
SECTIONS += (Teacher, Machine)
# Users do not override these: they say what a recipe is, not what it does.
DESCRIPTION = tuple(f.name for f in fields(Description))


# A dataclass has the fields of its last base first.
@dataclass(frozen=True, kw_only=True)
class Recipe(
    Machine, Teacher, FineTuning, Regularization, Optimizer, Loss, Batches, Images, Description
):
    """How a network is trained; None where the data set, the network or another field decides.

    The fields are described by the sections that they come from: `Description`, `Images`,
    `Batches`, `Loss`, `Optimizer`, `Regularization`, `FineTuning`, `Teacher` and `Machine`.

    Raises:
        ValueError: If a value is invalid.

    Example:
    >>> Recipe(epochs=10, weight_decay=1e-4).replace(optimizer="lamb").decouples
    True
    >>> Recipe(seed=-1)
    Traceback (most recent call last):
    ValueError: Invalid value for `seed`. Expected an integer of at least 0. Received: seed=-1
    """

    l2: InitVar[float | None] = None  # what weight_decay replaces: refused

    def __post_init__(self, l2: float | None) -> None:
        check_no_l2({} if l2 is None else {"l2": l2})
        for section in SECTIONS:
            check_fields(self, section.RULES)
        for key in self.network:
            if key not in NETWORK_FIELDS:
                raise ValueError(unknown("field of the model", key, NETWORK_FIELDS))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for key in ("teacher", "cache"):
            if isinstance(getattr(self, key), Path):
                object.__setattr__(self, key, str(getattr(self, key)))
        for wrong, message in self._impossible():
            if wrong:
                raise ValueError(message)

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        yield (
            bool(self.milestones) and self.schedule != "step",
            f'`milestones` needs schedule="step". Received: schedule="{self.schedule}"',
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
            self.decoupled is not None and self.weight_decay is None,
            "`decoupled` says how a `weight_decay` is applied: give both. Received: "
            f"decoupled={self.decoupled}",
        )
        yield (
            self.batch_size is not None and self.batch_size % self.accumulate != 0,
            f"`accumulate` must divide `batch_size`. Received: batch_size={self.batch_size}, "
            f"accumulate={self.accumulate}",
        )
        yield (
            self.teacher is not None and self.loss != "cross_entropy",
            'A teacher\'s answers are probabilities: use loss="cross_entropy".',
        )

    @property
    def step_batch(self) -> int:
        """Images per step of a resolved recipe; `accumulate` steps are one update."""
        return self.batch_size // self.accumulate

    @property
    def decay(self) -> float:
        """The weight decay, in the convention of papers and PyTorch."""
        return OWN_DECAYS[self.optimizer] if self.weight_decay is None else self.weight_decay

    @property
    def decouples(self) -> bool:
        """Whether the weight decay is subtracted from the weights instead of penalized."""
        if self.decoupled is not None:
            return self.decoupled
        return self.weight_decay is None or self.optimizer in ("adamw", "lamb")

    @property
    def distilled(self) -> float:
        """The weight of the loss against a teacher."""
        if self.teacher_weight is None:
            return 1.0 if self.teacher else 0.0
        return self.teacher_weight

    def replace(self, **overrides: object) -> "Recipe":
        """Return the recipe with some fields changed.

        A new `learning_rate` resets `reference_batch`, and a new `weight_decay` resets `decoupled`,
        unless they are given too.

        Raises:
            ValueError: If a field is unknown, or a value is invalid.
        """
        check_no_l2(overrides)
        _check_known(overrides)
        if overrides.get("learning_rate") is not None:
            overrides = {"reference_batch": None, **overrides}
        if "weight_decay" in overrides:
            overrides = {"decoupled": None, **overrides}
        return replace(self, **overrides)

    def resolved(self, dataset: Dataset) -> "Recipe":
        """Return the recipe with batch, epochs, rates and augmentation for a data set.

        Args:
            dataset: Dataset, from `load_dataset`.

        Raises:
            ValueError: If it needs a teacher and has none.
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
            weight_decay=self.decay,
            decoupled=self.decouples,
            augmentation=self.augmentation or dataset.augmentation,
        )

    def check_teacher(self) -> None:
        """Raise a `ValueError` if the recipe lacks a teacher it needs, or its file is missing."""
        if not self.distilled:
            return
        if not self.teacher:
            raise ValueError(
                f'The recipe "{self.name}" learns from a teacher, and none is given. Name one '
                "(--teacher FILE), or do without (--set teacher_weight=0)."
            )
        if not Path(self.teacher).exists():
            raise ValueError(
                f'The teacher "{self.teacher}" does not exist. Expected a .keras file, or a run.'
            )

    def _learning_rate(self, batch_size: int) -> float:
        if self.learning_rate is None:
            return own_rate(self.optimizer, batch_size)
        return self.learning_rate * batch_size / (self.reference_batch or batch_size)

    def smoke(self) -> "Recipe":
        """Return the same recipe for a tiny network, tiny images and two epochs: to try it out.

        Raises:
            ValueError: If the network is not a residual one.
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


def own_rate(optimizer: str, batch_size: int) -> float:
    """Return an optimizer's default learning rate for a batch size."""
    if optimizer == "sgd":
        return OWN_RATES["sgd"] * max(1, batch_size / 256)
    return OWN_RATES[optimizer] * math.sqrt(batch_size / 64)


def _tiny(model: str, changed: Mapping) -> dict:
    """Return the fields that make a residual network tiny, whatever its options."""
    config = None if model.lower().startswith("keras:") else variants.get(model).config
    if not isinstance(config, ResNetConfig):
        raise ValueError(
            f'"{model}" has no tiny form to try a recipe with. Expected a residual network, such '
            "as ResNet50."
        )
    tiny = {"blocks": (1, 1, 1, 1), "filters": (8, 16, 16, 32), "stem_filters": 8}
    if config.big_little:  # whose stages have two branches
        tiny["blocks"] = (2, 2, 2, 1)
    if config.cardinality > 1:
        tiny |= {"cardinality": 4, "width_per_group": 16}
    # With more momentum, batch statistics would hardly change in so few steps.
    momentum = min(changed.get("norm_momentum", config.norm_momentum), 0.9)
    return {**tiny, "drop_block_size": 3, "norm_momentum": momentum}


def check_no_l2(given: Mapping) -> None:
    """Raise a `ValueError` that says what replaces `l2` if that is among the fields."""
    if "l2" not in given:
        return
    l2 = given["l2"]
    number = isinstance(l2, int | float)
    twice, once = (f"{2 * l2:g}", f"{l2:g}") if number else ("2 * X", "X")
    raise ValueError(
        "A recipe has no `l2`: its `weight_decay` is what papers and PyTorch print, twice the "
        f"factor of the penalty. Write weight_decay={twice} (--weight-decay {twice}) for l2={once}."
    )


def _check_known(given: Mapping) -> None:
    known = [f.name for f in fields(Recipe)]
    for name in given:
        if name not in known:
            raise ValueError(unknown("recipe field", name, known))


def split_overrides(given: Mapping) -> tuple[dict, dict]:
    """Split fields of a recipe from fields of a network's configuration."""
    check_no_l2(given)
    own = {f.name for f in fields(Recipe)} - set(DESCRIPTION)
    recipe = {name: value for name, value in given.items() if name in own}
    return recipe, {name: value for name, value in given.items() if name not in own}


def check_overrides(network: Mapping, config: object) -> None:
    """Raise a `ValueError` for fields that neither a recipe nor the configuration has."""
    own = [f.name for f in fields(Recipe) if f.name not in DESCRIPTION]
    valid = [*own, *(f.name for f in fields(config))]
    for name in network:
        if name not in valid:
            raise ValueError(unknown("field of the recipe or the model", name, valid))


def read(path: str | Path) -> Recipe:
    """Read a recipe that `write` has written; raise a `ValueError` if the file holds none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'"{path}" cannot be read as a recipe: {error}') from error
    if not isinstance(data, dict):
        raise ValueError(f'"{path}" holds no recipe. Expected a JSON object of its fields.')
    return from_fields(data)


def write(recipe: Recipe, path: str | Path) -> None:
    """Write the name of a recipe and its fields that differ from the default's as JSON."""
    Path(path).write_text(json.dumps(changes(recipe), indent=2) + "\n", encoding="utf-8")


def from_fields(data: Mapping) -> Recipe:
    """Return the recipe that JSON was written from.

    A `weight_decay` without `decoupled` is an older version's: decoupled, on top of any `l2`.
    """
    data = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    network = data.get("network", {})
    if not isinstance(network, Mapping):
        raise ValueError(f"Invalid value for `network`. Expected fields. Received: {network!r}")
    network = {key: tuple(v) if isinstance(v, list) else v for key, v in network.items()}
    data = _with_one_decay({**data, "network": network})
    _check_known(data)
    return Recipe(**data)


def _with_one_decay(data: Mapping) -> dict:
    """Translate a decoupled `weight_decay` and an `l2`, which both applied, to today's fields."""
    if "decoupled" in data or not data.keys() & {"weight_decay", "l2"}:
        return dict(data)
    data = dict(data)
    l2, decay = data.pop("l2", 0.0), data.get("weight_decay", OWN_DECAYS["sgd"])
    if not l2:
        return {**data, "weight_decay": decay, "decoupled": True if decay else None}
    if not decay:
        return {**data, "weight_decay": 2 * l2, "decoupled": False}
    if data.get("decay_vectors"):
        raise ValueError(
            f"A recipe cannot have both a decoupled weight_decay={decay} and l2={l2} with "
            "decay_vectors=True. Expected one of them."
        )
    # The network's own configuration can hold the penalty.
    network = {**data["network"], "l2": l2}
    return {**data, "weight_decay": decay, "decoupled": True, "network": network}


def changes(recipe: Recipe) -> dict:
    """Return the name of a recipe and the fields in which it differs from the default."""
    own, default = asdict(recipe), asdict(Recipe())
    differing = {key for key in own if own[key] != default[key]} | {"name"}
    if "weight_decay" in differing:
        differing.add("decoupled")  # by which `from_fields` knows the convention
    return {key: own[key] for key in own if key in differing}
