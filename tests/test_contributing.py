"""What CONTRIBUTING.md shows works, in one file each."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SHOWN = re.compile(r"`(keras_resnext/[\w/]+\.py)`[^`]*?```python\n(.*?)```", re.DOTALL)
SNIPPETS = SHOWN.findall((ROOT / "CONTRIBUTING.md").read_text())

PROGRAM = """
import numpy as np

import keras_resnext
from keras_resnext.data.augment import parse_augmentation
from keras_resnext.models import variants
from keras_resnext.models.counting import count
from keras_resnext.weights.load import to_timm

TINY = {"blocks": (1, 1), "filters": (8, 16), "stem_filters": 8}
for field in ({"attention": "ese"}, {"shortcut": "max"}):
    config = keras_resnext.ResNetConfig(**TINY, **field)
    model = keras_resnext.create_model(config, input_shape=(32, 32, 3), classes=3)
    assert keras_resnext.complexity(model) == count(config, 32, 3), field
    if "attention" in field:
        assert "layer1.0.se.fc.weight" in to_timm(model, config)

row = variants.get("ResNeXt50_64x4d")
counted = count(row.config, row.input_size, row.classes)
assert (counted.trainable, counted.parameters) == (row.trainable, row.total), counted
assert round(counted.macs / 1e9, 3) == row.gmacs
assert keras_resnext.ResNeXt50_64x4d.__name__ == row.name

images = np.arange(2 * 2 * 2 * 3, dtype="uint8").reshape(2, 2, 2, 3)
(step,) = parse_augmentation("flip_vertically(1)").steps
assert (step(images, [0, 0], 2).numpy() == images[:, ::-1]).all()

data = keras_resnext.load_dataset("gray")
assert data.class_names == ("dark", "bright") and len(data.train) == 64

assert keras_resnext.get_recipe("a3_linear").schedule == "linear"
"""


def test_each_is_short_and_of_one_file():
    files = [path for path, _ in SNIPPETS]
    assert len(files) == len(set(files)) == 6
    for path, code in SNIPPETS:
        statements = [line for line in code.splitlines() if line.strip()]
        assert len(statements) < 15, path


@pytest.mark.slow
def test_what_is_shown_works(tmp_path):
    copy = tmp_path / "keras_resnext"
    shutil.copytree(ROOT / "keras_resnext", copy)
    for path, code in SNIPPETS:
        with (tmp_path / path).open("a") as file:
            file.write(f"\n\n{code}")
    stubs = [sys.executable, str(ROOT / "tests/make_stubs.py")]
    for command in (stubs, [sys.executable, "-c", PROGRAM]):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
