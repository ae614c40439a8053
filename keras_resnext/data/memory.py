"""How much memory and disk space is free."""

import os
from pathlib import Path

# What is free if the system does not say (it does on Linux).
GUESS = 4 << 30
UNLIMITED = 1 << 62
CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Return the bytes that are free without swapping, and within a container's limit."""
    return min(_free_by_system(), _free_by_container())


def _free_by_system() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return GUESS
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def _free_by_container() -> int:
    """Return what a control group (version 2) leaves; pages of files count as free."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return UNLIMITED
    if limit == "max":
        return UNLIMITED
    file_pages = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(int(limit) - used + file_pages, 0)


def free_disk(folder: Path) -> int:
    """Return the bytes that are free below a folder, which need not exist."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize


def readable(size: float) -> str:
    """Return a number of bytes in a readable form, such as "3.1 GB"."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = sum(size >= 1000**exponent for exponent in range(1, len(units)))
    size /= 1000**power
    digits = 0 if not power or size >= 100 else 1
    return f"{size:.{digits}f} {units[power]}"
