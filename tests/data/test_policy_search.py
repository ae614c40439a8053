"""The policy search finds what was planted."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from marked import rows
from sklearn.linear_model import LogisticRegression

from keras_resnext import cli
from keras_resnext.data import policies, policy_search
from keras_resnext.data.augment import parse_augmentation
from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.parts import Part
from keras_resnext.data.pipeline import normalize

pytestmark = pytest.mark.only_tensorflow


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def predict(digits):
    """A model of digits that is no network: logistic regression on 8x8 pixels."""

    def features(images):
        return np.asarray(images)[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(-1, 64)

    model = LogisticRegression(max_iter=300)
    model.fit(features(normalize(digits.train.images, digits)), digits.train.labels)
    return lambda images: model.predict_proba(features(images))


# How held-out images differ, and what undoes that: solarizing from a low level on inverts too.
PLANTED = {
    "negatives": (lambda images: 255 - images, {"invert", "solarize"}),
    "faint": (lambda images: 100 + images // 5, {"autocontrast", "equalize"}),
}


@pytest.mark.parametrize("name", rows(PLANTED, slow=["negatives"]))
def test_the_operation_that_undoes_a_shift_is_found(digits, predict, name, tmp_path):
    change, undone_by = PLANTED[name]
    part = Part(change(digits.test.images), digits.test.labels)
    found = policy_search.search_policy(
        predict, replace(digits, test=part), trials=120, keep=6, images=96
    )
    assert found.plain > 2 * found.losses[0]
    assert list(found.losses) == sorted(found.losses)
    # Of four draws by chance one has it.
    assert all(undone_by & {step for step, *_ in row} for row in found.policy)
    policy_search.write_policy(found, tmp_path / "found.json")
    assert policies.read_policy(tmp_path / "found.json") == found.policy
    assert len(parse_augmentation(f"flip+{tmp_path / 'found.json'}").steps) == 2


def test_the_search_is_seeded_and_tells_how_far_it_is(digits, predict):
    told = []
    options = {"trials": 6, "keep": 2, "images": 32}
    first = policy_search.search_policy(
        predict, digits, **options, progress=lambda done, total: told.append((done, total))
    )
    assert policy_search.search_policy(predict, digits, **options) == first
    assert policy_search.search_policy(predict, digits, **options, seed=1) != first
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done) and set(totals) == {done[-1]}


def test_every_sub_policy_drawn_changes_most_images():
    drawn = policy_search.draw_sub_policies(300, 2, np.random.default_rng(0))
    assert {name for row in drawn for name, *_ in row} == set(policies.OPERATIONS) - {"identity"}
    assert all(1 - (1 - row[0][1]) * (1 - row[1][1]) >= 0.5 for row in drawn)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trials": 0}, "`trials`. Expected an integer of at least 1"),
        ({"keep": 9, "trials": 5}, "keep=9 to be at most trials=5"),
    ],
)
def test_wrong_searches(digits, predict, options, message):
    with pytest.raises(ValueError, match=message):
        policy_search.search_policy(predict, digits, **options)


def test_the_command_searches_with_a_saved_model(tmp_path, capsys):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10, "softmax")]
    )
    model.save(tmp_path / "model.keras")
    output = tmp_path / "policy.json"
    line = ["data", "policy", str(tmp_path / "model.keras"), "--trials", "4", "--keep", "2"]
    line += ["--images", "16", "--output"]
    assert cli.main([*line, str(output)]) == 0
    assert "Loss on 16 held-out images" in capsys.readouterr().out
    assert len(json.loads(output.read_text())["policy"]) == 2
    assert cli.main([*line, str(tmp_path / "no" / "policy.json")]) == 2
    assert cli.main([*line, str(output), "--data", str(four_classes(tmp_path))]) == 2
    assert "The model knows the 10 classes 0, 1, 2, ..., the data has 4" in capsys.readouterr().err


def four_classes(root):
    images = np.zeros((16, 32, 32, 3), np.uint8)
    np.savez(root / "four.npz", images=images, labels=np.arange(16) % 4)
    return root / "four.npz"
