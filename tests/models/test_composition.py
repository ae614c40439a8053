"""Every option of the residual networks composes with every other, or is refused by name."""

import dataclasses
import os
import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from networks import BASES, VALUES

from keras_resnext import ResNetConfig, create_model

pytestmark = pytest.mark.only_tensorflow  # the gradients of a whole model are taken on a tape

FIELDS = [field.name for field in dataclasses.fields(ResNetConfig)]
DRAWN = {name: st.sampled_from(values) for name, values in VALUES.items()}
NONSENSE = st.sampled_from(
    [
        None,
        -1,
        0,
        1.5,
        "x",
        "",
        (),
        [],
        (0,),
        (1, "a"),
        True,
        {},
        float("nan"),
        float("inf"),
        object,
    ]
)


def _few(base):
    """`base` with some fields changed: most draws are possible, and all fields meet."""
    fields = st.dictionaries(st.sampled_from(FIELDS), st.none(), min_size=2, max_size=9)
    changes = fields.flatmap(lambda f: st.fixed_dictionaries({n: DRAWN[n] for n in sorted(f)}))
    return changes.map(lambda change: base | change)


DRAWS = st.one_of(*map(_few, BASES))


def _configuration(draw):
    """The configuration, or None where it is refused, by a sentence that names an argument."""
    try:
        return ResNetConfig(**draw)
    except ValueError as error:
        named = [field for field in draw if re.search(rf"\b{field}\b", str(error))]
        assert named or re.search("|".join(FIELDS), str(error)), (draw, str(error))
        return None


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries(DRAWN))
def test_any_mixture_is_built_or_refused_by_name(draw):
    config = _configuration(draw)
    if config is not None:
        assert config.smallest_input >= 1 and min(config.widths) >= 1
        assert config.replace(l2=config.l2) == config


@settings(max_examples=300, deadline=None)
@given(DRAWS, st.sampled_from(FIELDS), NONSENSE)
def test_nonsense_is_refused_by_name(draw, field, value):
    _configuration(draw | {field: value})


def _trains_and_survives(draw, policy, folder):
    config = _configuration(draw)
    assume(config is not None)
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)
    size = config.smallest_input + 1
    model = create_model(config, input_shape=(size, size, 3), classes=3)
    images = np.random.RandomState(0).normal(size=(4, size, size, 3)).astype("float32")
    _check_gradients(model, images)
    _check_a_step(model, images)
    model.save(folder / "model.keras", include_optimizer=False)
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(model(images).numpy(), loaded(images).numpy())


def _check_gradients(model, images):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs * tf.constant([[0.0, 1.0, 2.0]])) + sum(model.losses)
    assert outputs.dtype == "float32"
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all(), weight.path


def _check_a_step(model, images):
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss, run_eagerly=True, auto_scale_loss=False)
    before = [weight.numpy() for weight in model.trainable_weights]
    assert np.isfinite(model.train_on_batch(images, np.array([0, 1, 2, 0])))
    after = [weight.numpy() for weight in model.trainable_weights]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert any(changed)


POLICIES = st.sampled_from(["float32", "mixed_float16"])
BUILDING = {
    "deadline": None,
    "derandomize": True,  # the same networks on every machine
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.slow
@settings(max_examples=300 if "SOAK" in os.environ else 60, **BUILDING)
@given(draw=DRAWS, policy=POLICIES)
def test_options_compose(draw, policy, tmp_path_factory):
    _trains_and_survives(draw, policy, tmp_path_factory.getbasetemp())
