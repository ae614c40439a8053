"""How to train: a frozen, self-validating description. Imports neither Keras nor TensorFlow."""

from dataclasses import dataclass, replace

from keras_resnext.data.datasets import Dataset
from keras_resnext.data.images import ON_ERROR
from keras_resnext.errors import one_of, unknown

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
LEARNING_RATE, LARGE_BATCH = 0.1, 256


@dataclass(frozen=True)
class TrainSettings:
    """Nesterov SGD, linear warm-up, a cosine down to 0; None where the data set decides.

    Args:
        epochs: Passes over the training part. Default: the data set's own.
        batch_size: Images a step, at most those of the training part. Default: the data set's own.
        learning_rate: The highest, after the warm-up. Default: 0.1, the ResNet
            paper's, and in proportion above its batch of 256 (the linear rule of "Accurate, Large
            Minibatch SGD", section 2.1).
        momentum: Of Nesterov.
        weight_decay: Decoupled from the loss: each step takes ``learning_rate * weight_decay`` of
            the convolution and dense kernels away, never of batch norms and biases. With a
            momentum of 0.9 it does what an L2 penalty of ``weight_decay / 10 * |w|^2 / 2`` in the
            loss does. (The penalty itself is the network's own: its configuration's ``l2``.)
        warmup: Share of all steps in which the learning rate rises.
        label_smoothing: Share of each training label that is spread evenly over all classes.
        augmentation: Name of a row of ``data.augment.AUGMENTATIONS``, several joined by "+", or the
            path of a policy file. Default: the data set's own.
        mixing: What batches are mixed by, as ``data.mixing.find_mixing`` reads it.
        cache: What is kept of the images between epochs: "auto", "memory", "encoded", a folder, or
            False: see ``data.cache.plan_cache``.
        memory_budget: Bytes that may be kept in memory. Default: 60 % of what is free.
        on_error: "raise", or "skip" images that cannot be decoded.
        precision: The dtype policy that the network has been built under.
        freeze: The last stage that stays as it is, 0 for the stem alone; None freezes nothing.
        stage_decay: What each stage's learning rate is of the one's above it, from the classifier
            down (see ``training.fine_tune``).
        seed: Of the initial weights, the order of images and their augmentation.

    Raises:
        ValueError: For a value that cannot be.

    Example:

    >>> TrainSettings(epochs=5).momentum
    0.9
    >>> TrainSettings(epochs=0)
    Traceback (most recent call last):
    ValueError: Invalid value for `epochs`. Expected an integer of at least 1. Received: epochs=0
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-3
    warmup: float = 0.1
    label_smoothing: float = 0.0
    augmentation: str | None = None
    mixing: str = "none"
    cache: str | bool = "auto"
    memory_budget: int | None = None
    on_error: str = "raise"
    precision: str = "float32"
    freeze: int | None = None
    stage_decay: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for field, (holds, expected) in RULES.items():
            value = getattr(self, field)
            if not holds(value):
                raise ValueError(
                    f"Invalid value for `{field}`. Expected {expected}. Received: {field}={value!r}"
                )
        if self.precision not in PRECISIONS:
            raise ValueError(unknown("precision", self.precision, PRECISIONS))
        one_of("on_error", self.on_error, ON_ERROR)

    def resolved(self, dataset: Dataset) -> "TrainSettings":
        """Fill in what the data set decides.

        Args:
            dataset: From ``load_dataset``.

        Returns:
            TrainSettings in which nothing is None.
        """
        batch_size = min(self.batch_size or dataset.batch_size, len(dataset.train))
        return replace(
            self,
            epochs=self.epochs or dataset.epochs,
            batch_size=batch_size,
            learning_rate=self.learning_rate or LEARNING_RATE * max(1, batch_size / LARGE_BATCH),
            augmentation=self.augmentation or dataset.augmentation,
        )


def _integer(least: int):
    return lambda value: type(value) is int and value >= least


def _number(low: float, high: float):
    """From low, included, to high, not included."""
    return lambda value: type(value) in (int, float) and low <= value < high


def _or_none(holds):
    return lambda value: value is None or holds(value)


RULES = {
    "epochs": (_or_none(_integer(1)), "an integer of at least 1"),
    "batch_size": (_or_none(_integer(1)), "an integer of at least 1"),
    "learning_rate": (_or_none(_number(1e-12, float("inf"))), "a number above 0"),
    "momentum": (_number(0, 1), "a number from 0 to below 1"),
    "weight_decay": (_number(0, float("inf")), "a number of at least 0"),
    "warmup": (_number(0, 1), "a number from 0 to below 1"),
    "label_smoothing": (_number(0, 1), "a number from 0 to below 1"),
    "freeze": (_or_none(lambda value: value in range(5)), "a stage from 0 to 4"),
    "stage_decay": (lambda value: value == 1 or _number(1e-6, 1)(value), "a number to 1"),
    "memory_budget": (_or_none(_integer(0)), "an integer of at least 0, bytes"),
    "seed": (_integer(0), "an integer of at least 0"),
}
