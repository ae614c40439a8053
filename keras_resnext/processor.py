"""The features of this machine's processor."""

import platform
from pathlib import Path


def is_x86() -> bool:
    """Return whether the processor is x86-64, for which TensorFlow includes oneDNN's kernels."""
    return platform.machine() in ("x86_64", "AMD64")


def processor_flags() -> set[str]:
    """Return the processor's features as Linux names them, or an empty set elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return set(flags.split(":", 1)[1].split())
