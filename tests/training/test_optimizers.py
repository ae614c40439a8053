"""Optimizers, schedules, losses and averages of recipes, step by step against NumPy."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_resnext.training.build import compile_recipe
from keras_resnext.training.losses import BinaryCrossentropy, find_loss
from keras_resnext.training.optimizers import averaged, penalize
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.recipes import RECIPES, get_recipe
from keras_resnext.training.schedules import learning_rate_schedule

STEPS = 5
BASE = Recipe(learning_rate=0.05, weight_decay=0.0, warmup=0.0, momentum=0.9, nesterov=False)


def regression(activation="softmax"):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation=activation)]
    model = keras.Sequential(layers)
    model.layers[0].bias.assign([1.0, 2.0, 3.0])
    return model


def data(count=20):
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, 4)), np.eye(3)[generator.integers(0, 3, count)]


def gradients(weights, x, y, l2=0.0):
    kernel, bias = weights
    logits = x @ kernel + bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    error = (odds / odds.sum(1, keepdims=True) - y) / len(x)
    return [x.T @ error + 2 * l2 * kernel, error.sum(0)]


def rate_at(recipe, step, steps=STEPS):
    """The learning rate by its definition, in float64."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return recipe.learning_rate * step / warmup
    if recipe.schedule == "step":
        fallen = sum(step >= round(share * steps) for share in recipe.milestones)
        return recipe.learning_rate * 0.1**fallen
    done = min((step - warmup) / (steps - warmup), 1)
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - done)
    return recipe.learning_rate * (1 + np.cos(np.pi * done)) / 2


@pytest.mark.parametrize("name", RECIPES)
def test_schedules_are_closed_form(name):
    recipe = replace(get_recipe(name), learning_rate=get_recipe(name).learning_rate or 0.1)
    steps = 997
    schedule = learning_rate_schedule(recipe, steps)
    for step in (0, 7, 49, 249, 499, 748, 996):
        expected = rate_at(recipe, step, steps)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-8), step
    again = type(schedule).from_config(schedule.get_config())
    assert float(again(500)) == float(schedule(500))


def sgd(recipe, weights, state, gradient, rate, step):
    for w, v, g in zip(weights, state, gradient, strict=True):
        v[:] = recipe.momentum * v - rate * g
        w += recipe.momentum * v - rate * g if recipe.nesterov else v


def adam(recipe, weights, state, gradient, rate, step):
    for w, (m, s), g in zip(weights, state, gradient, strict=True):
        m[:] = 0.9 * m + 0.1 * g
        s[:] = 0.999 * s + 0.001 * g * g
        scale = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        w -= scale * m / (np.sqrt(s) + 1e-7)


def lamb(recipe, weights, state, gradient, rate, step):
    for w, (m, s), g in zip(weights, state, gradient, strict=True):
        m[:] = 0.9 * m + 0.1 * g
        s[:] = 0.999 * s + 0.001 * g * g
        update = m / (1 - 0.9**step) / (np.sqrt(s / (1 - 0.999**step)) + 1e-6)
        ratio = 1.0
        if recipe.decouples and (w.ndim > 1 or recipe.decay_vectors):
            update = update + recipe.weight_decay * w
            ratio = np.linalg.norm(w) / np.linalg.norm(update)
        w -= rate * ratio * update


RULES = {"sgd": (sgd, 1), "adam": (adam, 2), "adamw": (adam, 2), "lamb": (lamb, 2)}


CASES = [(name, decoupled, name == "sgd") for name in RULES for decoupled in (None, True)]
CASES = [*CASES, ("lamb", False, False), ("sgd", False, False)]


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("name, decoupled, nesterov", CASES)
def test_steps_and_decay_are_those_of_the_papers(name, decoupled, nesterov, vectors):
    recipe = replace(
        BASE,
        optimizer=name,
        nesterov=nesterov,
        weight_decay=0.1,
        decoupled=decoupled,
        decay_vectors=vectors,
    )
    rule, slots = RULES[name]
    x, y = data()
    model = regression()
    compile_recipe(model, recipe, STEPS)
    weights = [w.astype(np.float64) for w in model.get_weights()]
    shape = (slots,) if slots > 1 else ()
    state = [np.zeros((*shape, *w.shape)) for w in weights]
    for step in range(STEPS):
        model.train_on_batch(x, y)
        rate, gradient = rate_at(recipe, step), gradients(weights, x, y)
        for w, g in zip(weights, gradient, strict=True):
            if w.ndim == 1 and not vectors:
                continue
            if not recipe.decouples:
                g += recipe.weight_decay * w
            elif name != "lamb":
                w *= 1 - rate * recipe.weight_decay
        rule(recipe, weights, state, gradient, rate, step + 1)
    for ours, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("vectors", [False, True])
def test_a_decay_that_is_not_decoupled_is_a_penalty_in_the_loss(vectors):
    x, y = data()
    model = regression()
    kernel, bias = model.get_weights()
    compile_recipe(model, replace(BASE, weight_decay=0.5, decay_vectors=vectors), STEPS)
    plain = regression()
    compile_recipe(plain, BASE, STEPS)
    expected = 0.25 * ((kernel**2).sum() + vectors * (bias**2).sum())
    found = model.evaluate(x, y, verbose=0)[0] - plain.evaluate(x, y, verbose=0)[0]
    assert found == pytest.approx(expected, rel=1e-4)
    model.train_on_batch(x, y)
    moved = kernel - 0.05 * gradients((kernel, bias), x, y, l2=0.25)[0]
    np.testing.assert_allclose(model.get_weights()[0], moved, rtol=1e-4, atol=1e-6)


def test_a_penalty_is_kept_in_the_file(tmp_path):
    model = regression()
    penalize(model, 0.5)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert float(sum(again.losses)) == pytest.approx(float(sum(model.losses)))


@pytest.mark.parametrize("name", RULES)
def test_accumulated_parts_are_one_batch(name):
    x, y = data(24)
    whole, parts = regression(), regression()
    recipe = replace(BASE, optimizer=name, weight_decay=0.1, schedule="step", clip_norm=0.2)
    compile_recipe(whole, recipe, 4)
    compile_recipe(parts, replace(recipe, accumulate=3, batch_size=24), 12)
    for _ in range(4):
        whole.train_on_batch(x, y)
        for part in range(3):
            before = parts.get_weights()[0]
            parts.train_on_batch(x[part * 8 : part * 8 + 8], y[part * 8 : part * 8 + 8])
            assert (before != parts.get_weights()[0]).any() == (part == 2)
    for ours, expected in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_closed_form_and_leaves_no_trace(accumulate):
    x, y = data(24)
    model = regression()
    recipe = replace(BASE, ema=0.8, accumulate=accumulate, batch_size=24)
    compile_recipe(model, recipe, 100)
    with averaged(model):
        pass  # not built yet: nothing to swap
    average = None
    for step in range(12):
        model.train_on_batch(x[:8], y[:8])
        kernel = model.get_weights()[0].astype(np.float64)
        share = 0.8 ** (1 / accumulate)
        first = step < accumulate
        average = kernel if first else share * average + (1 - share) * kernel
        before = model.get_weights()
        with averaged(model):
            np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-5, atol=1e-6)
            assert step < 2 * accumulate or (model.get_weights()[0] != before[0]).any()
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_binary_cross_entropy_of_mixed_labels():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(6, 5)) * 3
    labels = generator.dirichlet(np.ones(5) * 0.3, 6)
    there = labels > 0.2
    assert 6 < there.sum() < 18, "some images are of two classes"
    expected = np.where(there, np.log1p(np.exp(-logits)), np.log1p(np.exp(logits))).mean()
    found = BinaryCrossentropy()(labels.astype("float32"), logits.astype("float32"))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(BinaryCrossentropy()))
    assert float(again(labels, logits)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="ends in a softmax. Build it with `classifier_activ"):
        find_loss(regression(), Recipe(loss="binary_cross_entropy"))


def test_probabilities_and_logits_have_the_same_loss():
    x, y = data()
    values = []
    for activation in ("softmax", None):
        model = regression(activation)
        compile_recipe(model, BASE, 3)
        values.append([float(model.train_on_batch(x, y)[0]) for _ in range(3)])
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_schedules_of_drops_rise_over_the_share_of_the_run():
    from keras_resnext import DropBlock2D, DropPath

    image = keras.Input((8, 8, 2))
    x = DropBlock2D(0.2, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(DropPath(0.3)(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    for ramp, expected in ((0.0, 0), (0.5, 500), (1.0, 1000)):
        compile_recipe(model, replace(BASE, drop_ramp=ramp), 1000)
        steps = {layer.schedule_steps for layer in model.layers[1:3]}
        assert steps == {expected}
