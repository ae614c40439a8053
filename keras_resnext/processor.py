"""What the processor of this machine can do."""

import platform
from pathlib import Path


def is_x86() -> bool:
    """Say whether it is an x86-64, for which TensorFlow brings oneDNN's kernels."""
    return platform.machine() in ("x86_64", "AMD64")


def processor_flags() -> set[str]:
    """Give what the processor can do, as Linux names it; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    found = [line for line in lines if line.startswith(("flags", "Features"))]
    return set(found[0].split(":", 1)[1].split()) if found else set()
