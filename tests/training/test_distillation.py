"""The term of the loss that a teacher adds, online and from its stored answers."""

from dataclasses import replace
from io import StringIO

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_resnext.data.datasets import Part
from keras_resnext.training.build import compile_recipe
from keras_resnext.training.distillation import load_teacher, stored_answers, taught_model
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.train import train

BASE = Recipe(learning_rate=0.05, weight_decay=0.0, warmup=0.0, momentum=0.0)


def dense(activation, seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=activation)])


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("activations", [("softmax", None), (None, "softmax")])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_papers(temperature, activations, stored):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 4)), generator.dirichlet(np.ones(3), 20)
    student, teacher = dense(activations[0], 1), dense(activations[1], 2)
    recipe = replace(
        BASE, teacher="t", temperature=temperature, teacher_weight=0.7, teacher_stored=stored
    )
    model = taught_model(student, teacher, recipe)
    compile_recipe(model, recipe, 100, student=student)

    kernel, bias = student.get_weights()
    logits, taught = x @ kernel + bias, x @ teacher.get_weights()[0] + teacher.get_weights()[1]
    hard = -(y * np.log(softmax(logits))).sum(1).mean()
    targets = softmax(taught / temperature)
    soft = -(targets * np.log(softmax(logits / temperature))).sum(1).mean()
    expected = hard + 0.7 * temperature**2 * soft
    error = softmax(logits) - y + 0.7 * temperature * (softmax(logits / temperature) - targets)

    seen = [x, softmax(taught)] if stored else x
    loss = model.train_on_batch(seen, y)[0]
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(
        student.get_weights()[0], kernel - 0.05 * x.T @ error / 20, rtol=1e-3, atol=1e-5
    )
    # Testing adds nothing and asks no teacher; the outputs are the student's.
    plain = keras.losses.CategoricalCrossentropy(from_logits=activations[0] is None)
    tested = model.evaluate([x, np.zeros_like(y)] if stored else x, y, verbose=0)[0]
    assert tested == pytest.approx(float(plain(y, student(x))), rel=1e-4)


def test_the_loss_is_scaled_as_without_a_teacher():
    with precision("mixed_float16"):
        student = dense("softmax", 1)
    recipe = replace(BASE, teacher="t", precision="mixed_float16")
    model = taught_model(student, dense("softmax", 2), recipe)
    compile_recipe(model, recipe, 100, student=student)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.slow
def test_a_run_with_a_teacher_online_and_stored(tmp_path, dataset, make_model):
    teacher = make_model()
    quiet = Console(file=StringIO())
    easy = Recipe(learning_rate=0.05, epochs=4)
    train(teacher, dataset, easy, tmp_path / "teacher", console=quiet)
    before = teacher.get_weights()
    recipe = easy.replace(
        epochs=2, teacher=str(tmp_path / "teacher"), teacher_weight=3.0, learning_rate=0.02
    )
    results = {}
    for name, changes in {
        "alone": {"teacher": None, "teacher_weight": None},
        "online": {},
        "stored": {"teacher_stored": True},
    }.items():
        student = make_model()
        summary = train(student, dataset, recipe.replace(**changes), tmp_path / name, console=quiet)
        saved = keras.saving.load_model(tmp_path / name / "model.keras")
        assert saved.count_params() == student.count_params(), "the teacher is not saved with it"
        results[name] = student.get_weights(), summary["test_loss"]
    # Without augmentation the teacher's stored answers are those that it gives online.
    for ours, expected in zip(results["stored"][0], results["online"][0], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    assert results["online"][1] < 0.9 * results["alone"][1]
    for a, b in zip(before, load_teacher(tmp_path / "teacher", dataset).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    # A second run takes the answers from the file.
    files = list((tmp_path / "teacher").glob("teacher-*.npy"))
    assert len(files) == 1 and np.load(files[0]).shape == (200, 8)
    np.save(files[0], np.full((200, 8), 1 / 8, np.float32))
    asked = recipe.replace(teacher_stored=True).resolved(dataset)
    assert (stored_answers(teacher, dataset, asked) == 1 / 8).all()


def test_stored_answers_are_of_these_images_as_they_are_shown(tmp_path, dataset, make_model):
    """A split by another seed has as many images from the same place."""
    part, teacher = dataset.train, make_model()
    asked = BASE.replace(teacher=str(tmp_path), teacher_stored=True).resolved(dataset)
    first = stored_answers(teacher, dataset, asked)
    backwards = replace(dataset, train=Part(part.images[::-1], part.labels[::-1]))
    found = stored_answers(teacher, backwards, asked)
    np.testing.assert_allclose(found[::-1], first, rtol=1e-5, atol=1e-7)
    darker = stored_answers(teacher, replace(dataset, mean=(0.9, 0.9, 0.9)), asked)
    assert abs(darker - first).max() > 0.01


def test_stored_answers_are_mixed_as_labels_are(dataset):
    from keras_resnext.data.pipeline import assemble, prepare_training

    answers = np.eye(8, dtype=np.float32)[dataset.train.labels]
    training = prepare_training(
        dataset,
        32,
        mixing="cutmix",
        drop_remainder=True,
        teacher_probabilities=answers,
        label_smoothing=0.2,
    )
    (images, taught), labels = next(iter(assemble(training, 1)))
    assert images.shape == (32, 16, 16, 3)
    np.testing.assert_allclose(labels, taught * 0.8 + 0.2 / 8, rtol=1e-5)
    assert (np.asarray(taught).max(1) < 1).any()


def test_teachers_that_cannot_teach(tmp_path, dataset, make_model):
    with pytest.raises(ValueError, match="There is no model file and no folder of a run"):
        load_teacher(tmp_path / "t.keras", dataset)
    (tmp_path / "t.keras").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"t.keras\" cannot be loaded"):
        load_teacher(tmp_path / "t.keras", dataset)
    make_model(classes=5).save(tmp_path / "five.keras")
    with pytest.raises(ValueError, match=r"\(5,\), the data \"rows\" has 8 classes"):
        load_teacher(tmp_path / "five.keras", dataset)
    make_model(size=20).save(tmp_path / "large.keras")
    with pytest.raises(ValueError, match=r"takes images of shape \(20, 20, 3\), it would see"):
        load_teacher(tmp_path / "large.keras", dataset)
