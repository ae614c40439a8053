"""A report on this machine, the choices made on it, and its known faults."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

import keras
from keras import ops

from keras_resnext.layers import GroupedConv2D, backends
from keras_resnext.processor import is_x86, processor_flags
from keras_resnext.training.environment import device, devices, package_versions
from keras_resnext.training.precision import BFLOAT16_FLAGS, resolve

# One 3x3 convolution of ResNeXt-50's first stage.
SHAPE, GROUPS = (8, 56, 56, 128), 32
SECONDS = 1.5


@dataclass(frozen=True)
class Fault:
    """A row of the table of known faults.

    Args:
        holds: Function that returns whether this machine has the fault.
        text: str, the fault and what to do about it.
        thread: str, the issue where it was reported, or None.
    """

    holds: Callable[[], bool]
    text: str
    thread: str | None = None


def _version(package: str) -> tuple[int, ...]:
    try:
        parts = metadata.version(package).split(".")[:2]
    except metadata.PackageNotFoundError:
        return (0, 0)
    return tuple(int(part) for part in parts if part.isdecimal())


def _gpus() -> int:
    return sum(not name.startswith("cpu") for name in devices())


def _on(backend: str) -> bool:
    return keras.backend.backend() == backend


def _onednn() -> bool | None:
    return backends.current().has_onednn() if _on("tensorflow") else None


FAULTS = (
    Fault(
        lambda: _on("tensorflow") and _version("keras") == (3, 7) and _gpus() > 1,
        "Keras 3.7 trains to NaN on several GPUs with MirroredStrategy: use another release.",
        "keras-team/keras#21061",
    ),
    Fault(
        lambda: _on("tensorflow") and _gpus() > 1,
        "float16 with XLA on several GPUs may be slow or fail: use mixed_bfloat16, which `auto` "
        "takes where the GPU has it.",
        "keras-team/keras#21366",
    ),
    Fault(
        lambda: _on("tensorflow"),
        "Training on several machines fails in Keras's `fit` on TensorFlow: set KERAS_BACKEND=jax "
        "for --strategy multi_worker.",
        "keras-team/keras#20585",
    ),
    Fault(
        lambda: is_x86() and _onednn() is False,
        "oneDNN is off: networks train 1.1 to 2.2 times slower on a CPU. Import keras_resnext "
        "before TensorFlow, or set TF_ENABLE_ONEDNN_OPTS=1.",
    ),
    Fault(
        lambda: not _gpus() and not processor_flags() & BFLOAT16_FLAGS,
        "This processor has no bfloat16: mixed precision is slower than float32 on it.",
    ),
    Fault(
        lambda: _on("torch"),
        "On PyTorch there are neither several devices nor stage_decay.",
    ),
    Fault(
        lambda: find_spec("tensorboard") is None,
        "TensorBoard is missing, which TensorFlow does not bring any more and KerasTuner needs: "
        "pip install tensorboard.",
        "keras-team/keras-tuner#976",
    ),
)


def examine(measure: bool = True) -> dict:
    """Return a description of this machine and of the choices made on it.

    `onednn` is None on backends other than TensorFlow; `milliseconds` is the time of a grouped
    convolution by dtype, which takes some ten seconds to measure.
    """
    several = len(devices()) > 1
    return {
        "versions": package_versions(),
        "backend": keras.backend.backend(),
        "device": device(),
        "devices": devices(),
        "bfloat16": bool(processor_flags() & BFLOAT16_FLAGS),
        "onednn": _onednn(),
        "precision": resolve("auto"),
        "strategy": "mirrored" if several and not _on("torch") else "none",
        "faults": [(f.text, f.thread) for f in FAULTS if f.holds()],
        "milliseconds": {name: timing(name) for name in ("float32", "bfloat16")} if measure else {},
    }


def timing(dtype: str) -> float:
    """Return the median milliseconds of a 3x3 convolution of ResNeXt-50 in training, by dtype."""
    policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
    layer = GroupedConv2D(SHAPE[-1], 3, padding="same", groups=GROUPS, dtype=policy)
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
    model.compile("sgd", "mse")
    x = ops.ones(SHAPE)
    model.train_on_batch(x, x)
    seconds, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or not seconds:
        begin = time.perf_counter()
        model.train_on_batch(x, x)
        seconds.append(time.perf_counter() - begin)
    return 1e3 * sorted(seconds)[len(seconds) // 2]
