"""Mixed precision: the policy that networks are built under."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_resnext.processor import processor_flags
from keras_resnext.training.environment import devices

# Linux's names of the processor features that make bfloat16 faster than float32.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# The least compute capabilities whose tensor cores take bfloat16 and float16.
BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY = (8, 0), (7, 0)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build networks under a dtype policy, or under what "auto" resolves to, in this context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(resolve(policy))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def resolve(policy: str) -> str:
    """Return the policy that "auto" stands for here: the narrowest that this device is fast at.

    bfloat16 comes before float16, whose loss has to be scaled. Other policies are returned as they
    are.
    """
    if policy != "auto":
        return policy
    accelerators = [name for name in devices() if not name.startswith("cpu")]
    if not accelerators:
        return "mixed_bfloat16" if processor_flags() & BFLOAT16_FLAGS else "float32"
    if accelerators[0].startswith("tpu"):
        return "mixed_bfloat16"
    capability = gpu_capability()
    if capability >= BFLOAT16_CAPABILITY:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FLOAT16_CAPABILITY else "float32"


def gpu_capability() -> tuple[int, int]:
    """Return the compute capability of the first NVIDIA GPU, (0, 0) if there is none."""
    return _CAPABILITY.get(keras.backend.backend(), lambda: (0, 0))()


def _tensorflow_capability() -> tuple[int, ...]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return tuple(details.get("compute_capability", (0, 0)))


def _jax_capability() -> tuple[int, int]:
    import jax

    text = str(getattr(jax.devices()[0], "compute_capability", "0.0"))
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _torch_capability() -> tuple[int, int]:
    import torch

    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)


_CAPABILITY = {
    "tensorflow": _tensorflow_capability,
    "jax": _jax_capability,
    "torch": _torch_capability,
}
