"""Image files by their first and last bytes: a check of tens of thousands a second."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
HIDDEN = ("Thumbs.db", "desktop.ini", "__MACOSX")

TAIL = 4096

# Format: how a file begins, and whether its end is that of a whole one.
FORMATS = {
    "JPEG": (b"\xff\xd8\xff", lambda head, tail, size: b"\xff\xd9" in tail),
    "PNG": (b"\x89PNG\r\n\x1a\n", lambda head, tail, size: b"IEND" in tail),
    "GIF": (b"GIF8", lambda head, tail, size: tail.rstrip(b"\0").endswith(b";")),
    "BMP": (b"BM", lambda head, tail, size: size >= int.from_bytes(head[2:6], "little")),
}


def image_fault(path: str | Path) -> str | None:
    """Say what is wrong with an image file, as far as its ends tell.

    Args:
        path: Of the file.

    Returns:
        A few words, or None if it begins and ends like a whole image.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            tail = file.read()
    except OSError as error:
        return error.strerror or str(error)
    if not head:
        return "the file is empty"
    for name, (begin, is_whole) in FORMATS.items():
        if head.startswith(begin):
            return None if is_whole(head, tail, size) else f"the {name} file is truncated"
    return f"neither {', '.join(FORMATS)} by its first bytes"


def first_broken(paths: Sequence[str]) -> tuple[str, str] | None:
    """Find the first file that is no whole image.

    Args:
        paths: Of the files.

    Returns:
        Its path and what is wrong with it, or None.
    """
    chunks = [paths[i : i + 500] for i in range(0, len(paths), 500)]
    with ThreadPoolExecutor(8) as pool:  # the wait is for the disk
        return next(filter(None, pool.map(_first_broken, chunks)), None)


def _first_broken(paths: Sequence[str]) -> tuple[str, str] | None:
    faults = ((path, image_fault(path)) for path in paths)
    return next((pair for pair in faults if pair[1]), None)


def common_size(source: str, paths: Sequence[str]) -> tuple[int, int]:
    """Height and width of images that all have the same.

    Args:
        source: For the error.
        paths: Of the files.

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: If sizes differ.
    """
    from PIL import Image

    first = None
    for path in paths:
        with Image.open(path) as image:
            shape = image.height, image.width
        first = first or shape
        if shape != first:
            raise ValueError(
                f"The images of {source} differ in size: {paths[0]} is {first[1]}x{first[0]}, "
                f"{path} {shape[1]}x{shape[0]}. Give an image size to resize them to."
            )
    return first
