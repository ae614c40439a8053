"""Folding against the network itself, in every kind of network that the table has."""

import dataclasses

import keras
import numpy as np
import pytest
from marked import rows

from keras_resnext import ResNetConfig, create_model, describe, fold_batch_norm
from keras_resnext.models import variants
from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.description import description
from keras_resnext.weights.fold import with_dtype_policy

SIZE = 32


def kinds():
    """Small networks of the table that have each technique once, and others."""
    techniques, networks = set(), {}
    residual = (r for r in variants.VARIANTS.values() if isinstance(r.config, ResNetConfig))
    for row in residual:
        config = row.config
        # Two stages: one begins as the stem leaves it, one halves the image.
        short = {"blocks": (2 if config.big_little else 1, 1), "filters": (16, 32)}
        short |= {"stem_filters": 16, "width_per_group": 64}
        if config.cardinality > 1:
            short |= {"cardinality": 4, "width_per_group": 16}
        config = config.replace(**short)
        own = {(field, str(value)) for field, value in dataclasses.asdict(config).items()}
        own.add((config.block, config.cardinality, config.preactivation))
        if own - techniques:
            techniques |= own
            networks[row.name] = config
    small = variants.get("ResNeXt35").config.replace(blocks=(1, 1), filters=(16, 32))
    return networks | {
        "bias": small.replace(use_bias=True),
        "multi_kernel": small.replace(block="multi_kernel"),
        "form a": small.replace(form="a", cardinality=2),
        "drops": small.replace(drop_block=0.2, drop_path=0.2),
        "InceptionV3": variants.get("InceptionV3").config,
    }


def images(count=2, size=SIZE):
    return np.random.RandomState(1).normal(0, 1, (count, size, size, 3)).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def norms(model):
    return [x.name for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


KINDS = kinds()
# Norms after a sum or a concatenation of convolutions.
STAY = {"multi_kernel": ("conv2_norm",), "form a": ("conv3_norm",)}


@pytest.mark.parametrize("name", rows(KINDS, slow=["InceptionV3"]))
def test_every_kind_of_network_gives_the_same(name, randomize):
    config = KINDS[name]
    size = max(SIZE, config.smallest_input)
    model = create_model(config, classes=7, classifier_activation=None, input_shape=(size, size, 3))
    randomize(model)
    before = [keras.ops.convert_to_numpy(w) for w in model.weights]
    x = images(size=size)
    expected = outputs(model, x)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(outputs(folded, x), expected, atol=1e-4, rtol=1e-4)
    assert np.abs(expected).max() > 0.1  # or the tolerance would say nothing

    left = norms(folded)
    assert len(left) < len(norms(model))
    after_a_sum = ("preact_norm", "features_norm", *STAY.get(name, ()))
    assert all(x.endswith(after_a_sum) for x in left), left
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(weight))
    assert not {id(w) for w in model.weights} & {id(w) for w in folded.weights}
    keras.backend.clear_session()


def test_loaded_and_saved(tmp_path, randomize):
    small = {"blocks": (1, 1), "filters": (16, 32)}
    model = create_model("ResNeXt35", classes=3, attention="se", **small)
    randomize(model)
    model.save(tmp_path / "model.keras")
    folded = fold_batch_norm(keras.saving.load_model(tmp_path / "model.keras"))
    assert not norms(folded)
    folded.save(tmp_path / "folded.keras")
    x = images(size=32)
    again = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(outputs(again, x), outputs(folded, x))
    np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-4)


def test_what_must_stay(randomize):
    """Two readers, an activation, training statistics, another axis, two calls, another dtype."""
    image = keras.Input((8, 8, 4))
    layers = keras.layers

    def norm(x, **options):
        return layers.BatchNormalization(**options)(x)

    read_twice = layers.Conv2D(4, 1)(image)
    activated = norm(layers.Conv2D(4, 1, activation="relu")(image))
    other_axis = norm(layers.Conv2D(4, 1)(image), axis=1)
    other_dtype = norm(layers.Conv2D(4, 1, dtype="mixed_bfloat16")(image), dtype="float32")
    training = layers.BatchNormalization()(layers.Conv2D(4, 1)(image), training=True)
    shared = layers.Conv2D(4, 1)
    twice = layers.add([norm(shared(image)), shared(activated)])
    model = keras.Model(
        image,
        layers.concatenate(
            [read_twice, norm(read_twice), activated, other_axis, other_dtype, training, twice]
        ),
    )
    randomize(model)
    folded = fold_batch_norm(model)
    assert norms(folded) == norms(model) and len(norms(model)) == 6
    x = np.random.RandomState(0).normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(outputs(folded, x), outputs(model, x), atol=1e-6)


def test_a_convolution_that_is_an_output_stays_as_it_is(randomize):
    image = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 1)(image)
    model = keras.Model(image, [y, keras.layers.BatchNormalization()(y)])
    randomize(model)
    x = images(size=8)
    for ours, theirs in zip(fold_batch_norm(model)(x), model(x), strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (ours, theirs)), atol=1e-6)


class Standardized(keras.layers.Conv2D):
    """Weight standardization: its kernel is not what it multiplies by."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel))


class Halved(keras.layers.BatchNormalization):
    def call(self, inputs, **kwargs):
        return super().call(inputs, **kwargs) / 2


@pytest.mark.parametrize(
    ("convolution", "norm"),
    [(Standardized, keras.layers.BatchNormalization), (keras.layers.Conv2D, Halved)],
)
def test_what_others_made_of_a_layer_stays(convolution, norm, randomize):
    model = keras.Sequential([keras.Input((8, 8, 3)), convolution(4, 3), norm()])
    randomize(model)
    x = images(size=8)
    np.testing.assert_allclose(outputs(fold_batch_norm(model), x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("case", ["an output of another", "two norms", "called outside"])
def test_a_convolution_that_models_share_stays(case, randomize):
    image = keras.Input((8, 8, 3))
    convolution = keras.layers.Conv2D(4, 3)
    y = convolution(image)
    normed = keras.Model(image, keras.layers.BatchNormalization()(y))
    other_end = keras.layers.BatchNormalization()(y) if case == "two norms" else y
    other = keras.Model(image, other_end)
    outer = keras.Input((8, 8, 3))
    second = convolution(outer) if case == "called outside" else other(outer)
    model = keras.Model(outer, [normed(outer), second])
    randomize(model)
    x = images(size=8)
    for ours, theirs in zip(fold_batch_norm(model)(x), model(x), strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (ours, theirs)), atol=1e-6)


def test_other_layers_and_nested_models(randomize):
    layers = keras.layers
    inner = keras.Sequential(
        [
            layers.Input((8, 8, 4)),
            layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            layers.Dense(5, use_bias=False),
            layers.BatchNormalization(center=False),
        ]
    )
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, inner(layers.Conv2D(4, 3, padding="same")(image)))
    randomize(model)
    x = np.random.RandomState(0).normal(size=(2, 8, 8, 4)).astype("float32")
    for original in (inner, model):
        folded = fold_batch_norm(original)
        flat = folded._flatten_layers()
        assert not any(isinstance(x, layers.BatchNormalization) for x in flat)
        np.testing.assert_allclose(outputs(folded, x), outputs(original, x), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_another_precision(dtype, randomize):
    model = create_model("ResNet20", blocks=(1, 1), filters=(16, 16), classifier_activation=None)
    randomize(model)
    folded = fold_batch_norm(model, dtype=dtype)
    policies = {x.name: x.dtype_policy.name for x in folded.layers}
    assert policies.pop("predictions") == "float32"
    policies.pop("image", None)
    assert set(policies.values()) == {dtype}
    x = images(size=32)
    tolerance = {"float32": 1e-4, "mixed_bfloat16": 0.05}[dtype]
    expected = outputs(model, x)
    np.testing.assert_allclose(outputs(folded, x), expected, atol=tolerance * np.ptp(expected))


def behind(model):
    """The model as a part of another, as an export puts its preprocessing in front."""
    image = keras.Input(model.input_shape[1:])
    return keras.Model(image, model(keras.layers.Rescaling(2.0)(image)))


@pytest.mark.parametrize("wrap", [behind, lambda model: behind(behind(model))])
@pytest.mark.parametrize("rebuild", [fold_batch_norm, with_dtype_policy])
def test_models_within_models_end_in_float32_too(rebuild, wrap, randomize):
    small = {"blocks": (1, 1), "filters": (16, 16), "stem_filters": 16}
    network = create_model("ResNet20", **small)
    describe(network, class_names=[str(number) for number in range(10)])
    model = wrap(network)
    randomize(model)
    found = rebuild(model, "mixed_bfloat16")
    policies = {x.name: x.dtype_policy.name for x in found._flatten_layers()}
    assert policies["predictions"] == "float32" and policies["stem_conv"] == "mixed_bfloat16"
    assert description(found) == description(model) and description(found).class_names
    x = images(size=32)
    np.testing.assert_allclose(outputs(found, x), outputs(model, x), atol=0.1)


def test_what_models_share_is_shared(randomize):
    shared = keras.layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared])
    image = keras.Input((4,))
    model = keras.Model(image, inner(inner(shared(image))))
    randomize(model)
    found = with_dtype_policy(model, "float32")
    assert len(found.weights) == len(model.weights) == 2
    x = np.random.RandomState(0).normal(size=(2, 4)).astype("float32")
    np.testing.assert_allclose(outputs(found, x), outputs(model, x), atol=1e-6)


@pytest.mark.parametrize("rebuild", [fold_batch_norm, with_dtype_policy])
def test_auxiliary_losses_keep_their_weight(rebuild):
    image = keras.Input((4,))
    heads = [keras.layers.Dense(2, name=name)(image) for name in ("main", "auxiliary")]
    model = AuxiliaryModel(image, heads, "heads", auxiliary_weight=0.4)
    assert rebuild(model, "float32").auxiliary_weight == 0.4
    (inner,) = (x for x in rebuild(behind(model), "float32").layers if x.name == model.name)
    assert inner.auxiliary_weight == 0.4


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="needs a functional or a built Sequential model.*Own"):
        fold_batch_norm(Own())
