"""Processes that write, killed at random moments or at the same time; run by test_cache.py.

TensorFlow is imported once and does nothing before the children are forked: its threads would not
survive that.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from keras_resnext.data import cache, cache_file, pack
from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.resize import Resize
from keras_resnext.data.sources.packs import PACK

SQUARE = Resize(16, 16)
KILLS = 8


def write_cache(source, folder):
    part = load_dataset(source).train
    cache.fill_cache(part, SQUARE, cache.plan_cache(part, SQUARE, folder))


def write_pack(source, folder):
    pack.write_pack(load_dataset(source), folder, shard_images=40)


def whole_cache(folder):
    """Whether a cache would be used; then it must be whole."""
    used = [path for path in folder.glob("*") if cache_file._is_whole(path)]
    for path in used:
        labels = np.load(path / cache_file.SHAPES)[:, 3]
        pixels = np.fromfile(path / cache_file.PIXELS, np.uint8).reshape(-1, 16, 16, 3)
        assert len(pixels) == len(labels)
        assert (pixels[:, 0, 0, 1] == labels).all(), "pixels of other images"
    return bool(used)


def whole_pack(folder):
    if not (folder / PACK).exists():
        return False
    contents = json.loads((folder / PACK).read_text())
    for shards in contents["parts"].values():
        for shard in shards:
            assert (folder / shard["file"]).stat().st_size == shard["bytes"]
    return True


def start(write, source, folder):
    """Let a child write; give its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write(source, folder)
            code = 0
        finally:
            os._exit(code)
    return child


def run(write, source, folder, seconds=None):
    """Let a child write, and kill it after so many seconds; give how it ended and how long."""
    begin = time.monotonic()
    child = start(write, source, folder)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status, time.monotonic() - begin


def together(write, whole, source, folder):
    """Three at once, on what is not there yet: all end well, on one whole cache or pack."""
    children = [start(write, source, folder) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
    assert whole(folder) and not list(folder.rglob("*.part"))
    return sum(path.is_dir() for path in folder.glob("*"))


def main(kind, source, scratch):
    write, whole = {"cache": (write_cache, whole_cache), "pack": (write_pack, whole_pack)}[kind]
    scratch = Path(scratch)
    folders = together(write, whole, source, scratch / "together")
    status, length = run(write, source, scratch / "first")
    assert status == 0 and whole(scratch / "first")
    generator, killed, unfinished = random.Random(0), 0, 0
    left = [scratch / "killed0"]
    while killed < KILLS:
        status, _ = run(write, source, left[-1], generator.uniform(0.1, 1.0) * length)
        killed += status == signal.SIGKILL
        unfinished += any(left[-1].rglob("*.part"))
        # Each finds what the last one left; one that came to its end was given too much time, and
        # what it wrote would be used as it is.
        if whole(left[-1]):
            length *= 0.9
            left.append(scratch / f"killed{len(left)}")
    for folder in left:
        status, _ = run(write, source, folder)
        assert status == 0 and whole(folder)
        assert not list(folder.rglob("*.part")), "left over"
    print(json.dumps({"killed": killed, "unfinished": unfinished, "folders": folders}))


if __name__ == "__main__":
    main(*sys.argv[1:])
