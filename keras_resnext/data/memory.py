"""How much memory and disk there is to keep images in."""

import os
from pathlib import Path

# What is free where the system does not say (it does on Linux).
GUESS = 4 << 30
CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes that can be had without swapping, or without passing a container's limit."""
    return min(_free_by_system(), _free_by_container())


def _free_by_system() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return GUESS
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def _free_by_container() -> int:
    """What a control group (version 2) leaves; pages of files do not count, they give way."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return 1 << 62
    if limit == "max":
        return 1 << 62
    given_way = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(int(limit) - used + given_way, 0)


def free_disk(folder: Path) -> int:
    """Bytes that a file below a folder may have.

    Args:
        folder: Need not exist.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize


def readable(size: float) -> str:
    """Write a number of bytes for people.

    Args:
        size: Bytes.

    Example:

    >>> readable(3.1e9), readable(512)
    ('3.1 GB', '512 B')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = sum(size >= 1000**exponent for exponent in range(1, len(units)))
    size /= 1000**power
    return (
        f"{size:.0f} {units[power]}" if not power or size >= 100 else f"{size:.1f} {units[power]}"
    )
