"""Mixing against plain NumPy on photographs; label mass; float16."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_image

from keras_resnext.data.mixing import MIXINGS, beta, mix_batch, parse_mixing, snapmix

pytestmark = pytest.mark.only_tensorflow
SEED = (4, 9)
SIZE, COUNT = 24, 16


@pytest.fixture(scope="module")
def batch():
    """Photographs, and labels that are soft already."""
    photo = load_sample_image("china.jpg").astype(np.float32) / 255
    corners = np.random.default_rng(0).integers(0, 300, (COUNT, 2))
    images = np.stack([photo[y : y + SIZE, x : x + SIZE] for y, x in corners])
    return images, np.eye(COUNT, dtype=np.float32) * 0.9 + 0.1 / COUNT


def run(name, images, labels, seed=SEED, maps=None):
    row = MIXINGS[name]
    inputs = (images, labels, maps) if row.needs_maps else (images, labels)
    return [result.numpy() for result in row.function(*inputs, seed)]


def maps_of(count=COUNT):
    return np.random.default_rng(1).random((count, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", MIXINGS)
def test_label_mass_types_and_tf_data(batch, name, dtype):
    images, labels = (x.astype(dtype) for x in batch)
    row = MIXINGS[name]
    eager = run(name, images, labels, maps=maps_of())
    assert [x.dtype for x in eager] == [np.dtype(dtype)] * 2
    assert all(np.isfinite(x).all() for x in eager)
    assert len(eager[0]) == len(eager[1]) == COUNT // row.loads
    if not row.needs_maps:  # SnapMix weights by what is seen
        np.testing.assert_allclose(eager[1].astype(float).sum(1), 1, atol=2e-3)
    stream = tf.data.Dataset.from_tensors((images, labels)).map(
        lambda x, y: row.function(*((x, y, maps_of()) if row.needs_maps else (x, y)), SEED)
    )
    for ours, theirs in zip(next(iter(stream)), eager, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 if dtype == "float16" else 1e-6)
    exact = run(name, *batch, maps=maps_of())
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    for ours, theirs in zip(eager, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
    other = run(name, *batch, seed=(5, 9), maps=maps_of())
    assert not np.array_equal(other[0], exact[0])


@pytest.mark.parametrize("name", ["mixup", "mixup1"])
def test_mixup_blends_images_and_labels_alike(batch, name):
    images, labels = batch[0], np.eye(COUNT, dtype=np.float32)
    mixed, soft = run(name, images, labels)
    expected = np.einsum("bc,chwk->bhwk", soft, images)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    if name == "mixup1":
        assert (np.argwhere(soft[:, :8] > 0)[:, 0] == np.argwhere(soft[:, :8] > 0)[:, 1]).all()
        assert (np.argwhere(soft[:, 8:] > 0)[:, 0] == np.argwhere(soft[:, 8:] > 0)[:, 1]).all()


@pytest.mark.parametrize("name, pieces", [("cutmix", 2), ("ricap", 4)])
def test_pasting_weights_labels_by_area(batch, name, pieces):
    """Each image has a colour of its own: shares of colours are shares of labels."""
    images = np.broadcast_to(np.arange(COUNT)[:, None, None, None], (COUNT, SIZE, SIZE, 3))
    mixed, soft = run(name, images.astype(np.float32), np.eye(COUNT, dtype=np.float32))
    for image, label in zip(mixed, soft, strict=True):
        share = np.bincount(image[..., 0].astype(int).ravel(), minlength=COUNT) / SIZE**2
        np.testing.assert_allclose(label, share, atol=1e-6)
    assert max((soft > 0).sum(1)) == pieces


def test_pasted_boxes_are_pieces_of_the_images(batch):
    """Where a pixel comes from: CutMix leaves it in its place, RICAP shifts whole parts."""
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), -1)
    images = np.stack(
        [np.concatenate([grid, np.full((SIZE, SIZE, 1), n)], -1) for n in range(COUNT)]
    )
    labels = np.eye(COUNT, dtype=np.float32)
    mixed, _ = run("cutmix", images.astype(np.float32), labels)
    np.testing.assert_array_equal(mixed[..., :2], images[..., :2])
    mixed, _ = run("ricap", images.astype(np.float32), labels)
    for image in mixed:
        for axis in (0, 1):  # along a row or column, places rise by one but where parts meet
            steps = np.diff(image[..., axis], axis=axis)
            meeting = (steps != 1).any(1 - axis)
            assert meeting.sum() <= 2


def test_snapmix_weights_labels_by_the_maps(batch):
    images, labels = batch[0], np.eye(COUNT, dtype=np.float32)
    flat = np.ones((COUNT, 6, 6), np.float32)
    colours = np.broadcast_to(np.arange(COUNT)[:, None, None, None], images.shape)
    mixed, soft = (x.numpy() for x in snapmix(colours.astype(np.float32), labels, flat, SEED))
    for number, (image, label) in enumerate(zip(mixed, soft, strict=True)):
        kept = (image[..., 0] == number).mean()
        others = np.unique(image[..., 0][image[..., 0] != number])
        if len(others):  # flat maps weight by area: what is left of the one
            assert label[number] == pytest.approx(kept, abs=1e-5)
            assert label[int(others[0])] > 0
    # All of the map in one corner: what covers the corner takes the whole label.
    corner = np.zeros((COUNT, SIZE, SIZE), np.float32)
    corner[:, 0, 0] = 1
    mixed, soft = (x.numpy() for x in snapmix(colours.astype(np.float32), labels, corner, SEED))
    for number, (image, label) in enumerate(zip(mixed, soft, strict=True)):
        if image[0, 0, 0] == number and len(np.unique(image)) > 1:
            assert label[number] == pytest.approx(1, abs=1e-5)


def test_beta_has_the_mean_and_variance_of_the_distribution():
    for alpha in (0.2, 1.0, 5.0):
        draws = beta([20_000], SEED, alpha).numpy()
        assert draws.mean() == pytest.approx(0.5, abs=0.01)
        assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_choices_and_stages(batch):
    images, labels = batch
    stages = parse_mixing("mixup*0.5+cutmix*0.25,none@3")
    step = tf.function(lambda n, epoch: mix_batch(images, labels, tf.stack([n, 0]), stages, epoch))
    kinds = {"same": 0, "blended": 0, "pasted": 0}
    for n in range(80):
        mixed = step(tf.constant(n), tf.constant(0))[0].numpy()
        kept = (mixed == images).all(-1).mean()
        kinds["same" if kept == 1 else "pasted" if kept > 0.1 else "blended"] += 1
    assert 24 < kinds["blended"] < 56 and kinds["pasted"] > 8 and kinds["same"] > 8
    np.testing.assert_array_equal(step(tf.constant(1), tf.constant(3))[0], images)
    halves, _ = mix_batch(images, labels, SEED, parse_mixing("mixup1"), 0)
    assert len(halves) == COUNT // 2
