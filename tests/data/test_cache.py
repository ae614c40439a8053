"""What is kept: planned within a budget, keyed by all it depends on, never half-filled."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_resnext.data import cache, cache_file, pack, pipeline
from keras_resnext.data.datasets import Part, load_dataset
from keras_resnext.data.memory import free_disk, free_memory
from keras_resnext.data.resize import Resize

pytestmark = pytest.mark.only_tensorflow
SQUARE = Resize(16, 16)


def kept(part, where, form=SQUARE):
    return cache.fill_cache(part, form, cache.plan_cache(part, form, where))


def test_auto_takes_the_first_that_fits(tmp_path, make_folder, monkeypatch):
    """Noise in PNG: encoded images are smaller than decoded ones enlarged to 64."""
    part = load_dataset(make_folder(tmp_path / "a", count=20), 64).train
    form = Resize(64, 64)
    decoded = cache.plan_cache(part, form, budget=10**9)
    assert decoded.kind == "decoded" and decoded.decoded == len(part) * 64 * 64 * 3
    actual = sum(os.path.getsize(path) for path in part.images)
    assert actual <= decoded.encoded <= 1.2 * actual
    encoded = cache.plan_cache(part, form, budget=decoded.decoded - 1)
    assert encoded.kind == "encoded"
    assert cache.plan_cache(part, form, budget=actual // 2).kind == "nothing"
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    assert cache.plan_cache(part, form, budget=0).kind == "file"
    assert cache.plan_cache(load_dataset("digits").train, Resize(32, 32)).kind == "array"


def test_what_is_asked_for_and_does_not_fit_is_refused(tmp_path, make_folder):
    part = load_dataset(make_folder(tmp_path, count=20)).train
    with pytest.raises(ValueError, match="decoded images would take .* of the 10 B"):
        cache.plan_cache(part, SQUARE, "memory", budget=10)
    with pytest.raises(ValueError, match='Unknown cache "memry". Did you mean "memory".*./memry'):
        cache.plan_cache(part, SQUARE, "memry")


def test_of_an_array_nothing_is_kept_encoded():
    """Not even where it is not in the form that training wants."""
    images = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    dataset = load_dataset({"images": images, "labels": [0, 1] * 5}, 16)
    plan = cache.plan_cache(dataset.train, SQUARE, "encoded")
    assert plan.kind == "nothing" and "array" in plan.reason
    assert kept(dataset.train, "encoded").pixels.shape == (8, 12, 12, 3)
    batches = pipeline.training_batches(dataset, 8, cache="encoded", augmentation="none")
    assert next(iter(batches))[0].shape == (8, 16, 16, 3)


def test_a_file_cache_that_the_disk_has_no_room_for_is_refused(tmp_path, make_folder, monkeypatch):
    part = load_dataset(make_folder(tmp_path / "images", count=10)).train
    monkeypatch.setattr(cache, "free_disk", lambda folder: 16 * 16 * 16 * 3 - 1)
    with pytest.raises(ValueError, match="would take 12.3 kB of the 12.3 kB .* a folder with more"):
        kept(part, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    monkeypatch.setattr(cache, "free_disk", lambda folder: 16 * 16 * 16 * 3)
    first = kept(part, tmp_path / "cache").pixels.numpy()
    monkeypatch.setattr(cache, "free_disk", lambda folder: 0)  # nothing is written any more
    np.testing.assert_array_equal(kept(part, tmp_path / "cache").pixels, first)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_ends_the_writing_of_a_cache_leaves_nothing(tmp_path, make_folder, monkeypatch, error):
    part = load_dataset(make_folder(tmp_path / "images", count=10)).train

    def fail(file):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(cache_file, "_flush", fail)
        with pytest.raises(type(error)):
            kept(part, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert kept(part, tmp_path / "cache").pixels.shape == (16, 16, 16, 3)


def test_free_memory_and_disk(tmp_path):
    import psutil

    assert free_memory() <= 1.1 * psutil.virtual_memory().available
    assert 0 < free_disk(tmp_path / "not" / "there") <= psutil.disk_usage(str(tmp_path)).free * 1.1


def test_a_file_cache_is_keyed_by_all_it_depends_on(tmp_path, make_folder):
    root = make_folder(tmp_path / "images", count=10)
    where = tmp_path / "cache"
    part = load_dataset(root).train

    def caches():
        return {path.name for path in where.iterdir() if path.is_dir()}

    first = kept(part, where).pixels.numpy()
    before = caches()
    stamp = (where / next(iter(before)) / cache_file.PIXELS).stat().st_mtime_ns
    np.testing.assert_array_equal(kept(part, where).pixels, first)
    assert (
        where / next(iter(before)) / cache_file.PIXELS
    ).stat().st_mtime_ns == stamp  # not rewritten
    assert len(before) == 1
    kept(part, where, Resize(8, 8))
    assert len(caches()) == 2
    # A file that changes, even at the same length, is seen.
    path = Path(part.images[0])
    Image.fromarray(np.full((16, 16, 3), 99, np.uint8)).save(path)
    assert (kept(part, where).pixels[0].numpy() == 99).all()
    assert len(caches()) == 3
    # Another order is another cache.
    other = load_dataset(root, seed=5).train
    assert kept(other, where).labels.shape == (16,)
    assert len(caches()) == 4


def test_caches_are_named_as_ever():
    """Or those that earlier versions wrote would be left on the disk, and written again."""
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    part = Part(images, np.array([0, 1]))
    assert cache_file._key(part, SQUARE) == "31d8aecb979bdaa78d9b80a4"
    assert cache_file._key(part, Resize(16, None)) == "6095bdf2abe41301906135f8"


def test_a_pack_of_other_labels_is_another_cache(tmp_path, make_folder):
    """Its shards have the same names, counts and sizes."""
    root, where = make_folder(tmp_path / "images", count=5), tmp_path / "cache"
    rows = [(f"{name}/{n}.png", name) for name in ("cat", "dog") for n in range(5)]
    other = {"cat": "dog", "dog": "cat"}
    found = {}
    for kind, table in (("old", rows), ("new", [(path, other[name]) for path, name in rows])):
        lines = [f"{path},{name},{part}" for part in ("train", "test") for path, name in table]
        (root / "table.csv").write_text("\n".join(["path,label,split", *lines]))
        folder = pack.write_pack(load_dataset(root / "table.csv"), tmp_path / "same")
        shutil.move(folder, tmp_path / kind)
        shutil.copytree(tmp_path / kind, folder)  # at the same path
        found[kind] = kept(load_dataset(folder).train, where).labels.numpy()
        shutil.rmtree(folder)
    shards = [json.loads((tmp_path / k / "pack.json").read_text())["parts"] for k in found]
    assert shards[0] == shards[1]
    np.testing.assert_array_equal(found["old"], 1 - found["new"])


def test_a_damaged_file_cache_is_made_anew(tmp_path, make_folder):
    part = load_dataset(make_folder(tmp_path / "images", count=10)).train
    where = tmp_path / "cache"
    first = kept(part, where).pixels.numpy()
    (folder,) = (path for path in where.iterdir() if path.is_dir())
    for damage in (
        lambda: (folder / cache_file.META).unlink(),
        lambda: os.truncate(folder / cache_file.PIXELS, 100),
        lambda: (folder / cache_file.META).write_text("{"),
    ):
        damage()
        (where / f"{folder.name}.part").mkdir(exist_ok=True)
        np.testing.assert_array_equal(kept(part, where).pixels, first)
        assert not list(where.glob("*.part"))


def test_images_in_memory_begin_where_tensorflow_wants_them():
    for size in (1, 100, 4097):
        assert cache._aligned(size).ctypes.data % cache.ALIGNMENT == 0
    odd = cache._aligned(200)[1:101]
    np.testing.assert_array_equal(cache._shared(odd), odd)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cache", "pack"])
def test_killed_again_and_again_and_three_at_once(tmp_path, make_folder, kind):
    """Neither is ever used half-filled, and the next run needs no hand to clean up."""
    root = make_folder(tmp_path / "images", count=200, size=(48, 48))
    script = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, script, kind, root, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["killed"] == 8
    assert facts["unfinished"] > 0
    assert facts["folders"] == (1 if kind == "cache" else 0)


BUDGET_SCRIPT = r"""
import re, sys
import numpy as np
from keras_resnext.data import pipeline
from keras_resnext.data.datasets import Part, load_dataset
dataset = load_dataset(sys.argv[1], 192)
cache = {"auto": "auto", "nothing": False, "memory": "memory"}[sys.argv[2]]
training = pipeline.prepare_training(
    dataset, 8, cache=cache, memory_budget=int(sys.argv[3]), augmentation="flip"
)
for _ in range(2):
    for batch in pipeline.assemble(training):
        pass
# getrusage would begin with what the process that has started this one held.
peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
print(training.plan.kind, training.plan.decoded, peak)
"""


@pytest.mark.slow
def test_auto_stays_within_a_budget_below_the_decoded_size(tmp_path):
    """Resident memory of a process, measured against one that keeps nothing."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(500):
            small = rng.integers(0, 255, (12, 12, 3), np.uint8)
            image = Image.fromarray(small).resize((192, 192), Image.BICUBIC)
            image.save(tmp_path / name / f"{number}.jpg", quality=85)
    results = {}
    for kind, budget in (("nothing", 0), ("auto", 20 << 20), ("memory", 1 << 30)):
        done = subprocess.run(
            [sys.executable, "-c", BUDGET_SCRIPT, tmp_path, kind, str(budget)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found, decoded, resident = done.stdout.split()
        results[kind] = found, int(decoded), int(resident) << 10
    assert results["auto"][0] == "encoded" and results["auto"][1] > 4 * (20 << 20)
    spare = 24 << 20  # two runs of the same differ by so much
    assert results["auto"][2] <= results["nothing"][2] + (20 << 20) + spare
    assert results["memory"][2] > results["nothing"][2] + results["memory"][1] - spare
