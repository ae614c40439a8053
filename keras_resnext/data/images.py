"""A check of image files by their first and last bytes, whatever their names."""

import itertools
import os
import zlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
HIDDEN = ("Thumbs.db", "desktop.ini", "__MACOSX")
ON_ERROR = ("raise", "skip")

HEAD, TAIL = 4096, 4096
# An error names this many broken files one by one.
MOST_NAMED = 100

# JPEG markers of a frame header (the three others in the range are tables) and those that have no
# length after them.
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SCAN, END = 0xDA, b"\xff\xd9"
BARE = {0x01, *range(0xD0, 0xD8)}


def image_fault(path: str | Path) -> str | None:
    """Return what is wrong with an image file, or None if its beginning and end are valid."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read()
            if not head:
                return "the file is empty"
            for begins, fault in FORMATS.values():
                if begins(head):
                    return fault(file, head, tail, size)
            return f"neither {', '.join(FORMATS)} by its first bytes"
    except OSError as error:
        return error.strerror or str(error)


def _jpeg_fault(file: BinaryIO, head: bytes, tail: bytes, size: int) -> str | None:
    _, frame = _find_segment(file, head, FRAMES)
    if not (int.from_bytes(frame[5:7]) > 0 and int.from_bytes(frame[7:9]) > 0):
        return "the JPEG file has no frame header"  # or one without height and width
    whole = END in tail or _ends_before_the_tail(file, head)
    return None if whole else "the JPEG file is truncated"


def _ends_before_the_tail(file: BinaryIO, head: bytes) -> bool:
    """Look for the end of an image in the whole file: motion photos append a film."""
    place, scan = _find_segment(file, head, {SCAN})
    if not scan:
        return False
    file.seek(place)
    return END in file.read()


def _find_segment(file: BinaryIO, head: bytes, markers: Collection[int]) -> tuple[int, bytes]:
    """Walk the segments to one of these markers; return its place and first 9 bytes, or b""."""
    place = 2
    while True:
        segment = head[place : place + 9]
        if len(segment) < 9:  # a profile or a preview lies before it
            file.seek(place)
            segment = file.read(9)
        if len(segment) < 9 or segment[0] != 0xFF:
            return place, b""
        marker = segment[1]
        if marker in markers:
            return place, segment
        if marker == 0xFF or marker in BARE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(segment[2:4])
        if length < 2:
            return place, b""
        place += 2 + length


def _png_fault(file: BinaryIO, head: bytes, tail: bytes, size: int) -> str | None:
    if len(head) < 33 or zlib.crc32(head[12:29]) != int.from_bytes(head[29:33]):
        return "the PNG file has a broken header"
    return None if b"IEND" in tail else "the PNG file is truncated"


def _gif_fault(file: BinaryIO, head: bytes, tail: bytes, size: int) -> str | None:
    return None if tail.rstrip(b"\0").endswith(b";") else "the GIF file is truncated"


def _bmp_fault(file: BinaryIO, head: bytes, tail: bytes, size: int) -> str | None:
    whole = size >= int.from_bytes(head[2:6], "little")
    return None if whole else "the BMP file is truncated"


def _webp_fault(file: BinaryIO, head: bytes, tail: bytes, size: int) -> str | None:
    whole = size >= int.from_bytes(head[4:8], "little") + 8
    return None if whole else "the WebP file is truncated"


# Format: whether a file begins as one, and what is wrong with its header or its end.
FORMATS: dict[str, tuple[Callable, Callable]] = {
    "JPEG": (lambda head: head.startswith(b"\xff\xd8\xff"), _jpeg_fault),
    "PNG": (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), _png_fault),
    "GIF": (lambda head: head.startswith(b"GIF8"), _gif_fault),
    "BMP": (lambda head: head.startswith(b"BM"), _bmp_fault),
    "WebP": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _webp_fault),
}


def broken_or_raise(paths: Sequence[str], on_error: str) -> dict[str, str]:
    """Check all files; return what is wrong by path, or raise a `ValueError` that names them."""
    chunks = [paths[i : i + 500] for i in range(0, len(paths), 500)]
    with ThreadPoolExecutor(8) as pool:  # the wait is for the disk
        faults = pool.map(lambda chunk: [image_fault(path) for path in chunk], chunks)
        pairs = zip(paths, itertools.chain.from_iterable(faults), strict=True)
        broken = {path: fault for path, fault in pairs if fault}
    if broken and on_error == "raise":
        raise ValueError(describe_broken(broken))
    return broken


def describe_broken(broken: dict[str, str], otherwise: str = ", or --on-error skip") -> str:
    """Return the error message for broken files; `otherwise` ends its advice."""
    if len(broken) == 1:
        ((path, fault),) = broken.items()
        return f"Unreadable image {path}: {fault}. Replace or remove it{otherwise}."
    first = itertools.islice(broken.items(), MOST_NAMED)
    lines = [f"  Unreadable image {path}: {fault}" for path, fault in first]
    if len(broken) > MOST_NAMED:
        lines.append(f"  and {len(broken) - MOST_NAMED:,} more; keras-resnext data check lists all")
    advice = f"Replace or remove them{otherwise}."
    return "\n".join([f"{len(broken):,} files are not whole images. {advice}", *lines])


def common_size(source: str, paths: Sequence[str]) -> tuple[int, int]:
    """Return the common (height, width) of images, or raise a `ValueError` if sizes differ."""
    first = None
    for path in paths:
        shape = file_size(path)
        first = first or shape
        if shape != first:
            raise ValueError(
                f"The images of {source} differ in size: {paths[0]} is {first[1]}x{first[0]}, "
                f"{path} {shape[1]}x{shape[0]}. Give an image size to resize them to."
            )
    return first


def file_size(path: str) -> tuple[int, int]:
    """Return the (height, width) of an upright image in pixels, reading only its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except OSError as error:
        raise ValueError(describe_broken({path: str(error)})) from error
