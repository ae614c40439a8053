"""The devices and package versions of this machine."""

import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import keras

from keras_resnext.version import __version__

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


def devices() -> list[str]:
    """Return the names of the devices as Keras has them, such as "cpu:0" or "gpu:1"."""
    if keras.backend.backend() != "torch":
        return [name.lower() for name in keras.distribution.list_devices()]
    import torch

    return [f"gpu:{number}" for number in range(torch.cuda.device_count())] or ["cpu:0"]


def device() -> str:
    """Return a description of what this machine trains on."""
    accelerators = [name for name in devices() if not name.startswith("cpu")]
    return ", ".join(accelerators) or f"cpu, {_processor()}, {_cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def package_versions() -> dict[str, str]:
    """Return the versions that a bug report needs, by package."""
    versions = {"keras-resnext": __version__}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
