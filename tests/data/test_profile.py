"""The profiler names the stage that was made slow."""

import time

import numpy as np
import pytest
import tensorflow as tf

from keras_resnext import cli
from keras_resnext.data import augment, cache, pipeline, profile
from keras_resnext.data.cache import CachePlan
from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.waiting import timed

pytestmark = pytest.mark.only_tensorflow
SLOW = 0.02


@pytest.fixture
def dataset(tmp_path, make_folder):
    return load_dataset(make_folder(tmp_path, count=20, size=(24, 24), suffix="jpg"), 16)


def sleeping(value, seconds):
    """The same value, so many seconds later."""

    def sleep():
        time.sleep(seconds)
        return np.int32(0)

    late = tf.numpy_function(sleep, [], tf.int32)
    with tf.control_dependencies([late]):
        return tf.identity(value)


def slow_read(monkeypatch):
    read = cache.read_contents
    monkeypatch.setattr(cache, "read_contents", lambda path: sleeping(read(path), SLOW))
    return lambda images, labels: None


def slow_decode(monkeypatch):
    decode = pipeline.decode
    monkeypatch.setattr(pipeline, "decode", lambda contents: sleeping(decode(contents), SLOW))
    return lambda images, labels: None


def slow_augment(monkeypatch):
    row = augment.AugmentationRow("Sleep.", lambda images, seed, size: sleeping(images, 8 * SLOW))
    monkeypatch.setitem(augment.AUGMENTATIONS, "shift", row)
    return lambda images, labels: None


def slow_model(monkeypatch):
    return lambda images, labels: time.sleep(15 * SLOW)


PLANTED = {"read": slow_read, "decode": slow_decode, "augment": slow_augment, "model": slow_model}


@pytest.mark.slow
@pytest.mark.parametrize("stage", PLANTED)
def test_the_planted_bottleneck_is_named(dataset, stage, monkeypatch):
    step = PLANTED[stage](monkeypatch)
    found = profile.profile_pipeline(
        dataset, step, 8, seconds=0.6, augmentation="shift", cache=False
    )
    assert list(found.stages) == ["read", "decode", "augment"]
    if stage == "model":
        assert found.verdict.startswith("The model is the bottleneck")
        assert found.waiting < 0.5
        assert found.model < 1.3 * 8 / (15 * SLOW)
        return
    assert found.verdict.startswith(f"{stage} is the bottleneck")
    assert min(found.stages, key=found.stages.get) == stage
    assert found.waiting > 0.5
    assert found.pipeline < 1.5 * found.stages[stage]
    advice = {"read": "cache=encoded", "decode": "cache=memory needs", "augment": "No cache helps"}
    assert advice[stage] in found.verdict


@pytest.mark.slow
def test_rates_and_waiting_agree(dataset, monkeypatch):
    """Where model and pipeline sleep, and so share nothing: the slower one gives the rate."""
    slow_augment(monkeypatch)

    def step(images, labels):
        time.sleep(SLOW)

    found = profile.profile_pipeline(dataset, step, 8, seconds=1.2, augmentation="shift")
    assert found.together == pytest.approx(found.pipeline, rel=0.35)
    assert found.waiting == pytest.approx(1 - found.together / found.model, abs=0.15)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda dataset: profile.example_batch(dataset, 0), "count"),
        (lambda dataset: profile.profile_pipeline(dataset, batch_size=0), "batch_size"),
        (lambda dataset: profile.profile_pipeline(dataset, seconds=0), "seconds"),
        (lambda dataset: profile.profile_pipeline(dataset, seconds=float("nan")), "seconds"),
    ],
)
def test_what_is_not_above_zero_is_refused_before_any_work(call, argument):
    with pytest.raises(
        ValueError, match=f"`{argument}`. Expected .*(above 0|at least 1).* Received: "
    ):
        call(None)


def test_verdicts():
    plan = CachePlan("nothing", "", 3_100_000_000, 10**9, 20 * 10**9)
    stages = {"read": 22_500.0, "decode": 1620.0, "augment": 9000.0}
    facts = {"stages": stages, "cache": plan}
    assert profile.judge(pipeline=1620, model=4100, waiting=0.6, **facts) == (
        "decode is the bottleneck: the pipeline gives 1,620 of the 4,100 images per second that "
        "the model can take. cache=encoded would not help, cache=memory needs 3.1 GB of the "
        "20.0 GB of memory that may be used."
    )
    shared = profile.judge(pipeline=1620, model=1000, waiting=0.3, **facts)
    assert shared.startswith("The model and the pipeline want the same cores")
    assert "waits 30%" in shared
    assert profile.judge(pipeline=1620, model=None, waiting=None, **facts).startswith("decode is")


def test_waiting_is_measured():
    slow = tf.data.Dataset.range(10).map(lambda n: sleeping(n, 0.03))
    measured = timed(slow)
    assert [int(n) for n in measured.batches] == list(range(10))
    assert 0.28 < measured.seconds() < 5
    assert measured.seconds() == 0
    ready = timed(tf.data.Dataset.range(10).prefetch(10))
    stream = iter(ready.batches)
    next(stream)
    time.sleep(0.3)  # whoever takes the batches is slow, not the pipeline
    ready.seconds()
    for _ in range(5):
        next(stream)
        time.sleep(0.05)
    assert ready.seconds() < 0.15


def test_show_and_profile_draw_their_pictures(dataset, tmp_path, capsys):
    from PIL import Image

    root = str(dataset.source)
    grid, picture = tmp_path / "grid.png", tmp_path / "profile.png"
    common = ["--data", root, "--image-size", "16"]
    show = ["data", "show", *common, "--count", "9", "--mixing", "mixup", "--output", str(grid)]
    assert cli.main(show) == 0
    assert "9 images" in capsys.readouterr().out
    line = ["profile", *common, "--seconds", "0.2", "--batch-size", "8", "--output", str(picture)]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert "is the slowest stage" in out and "decode" in out
    for path in (grid, picture):
        with Image.open(path) as image:
            assert image.width > 300 and len(set(image.convert("L").getdata())) > 20
