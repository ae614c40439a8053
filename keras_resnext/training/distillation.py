"""Learning from a teacher: a term of the loss, whose answers come from a model or from a table."""

import hashlib
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_resnext.data.cache_file import fingerprint
from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import part_batches, test_edge
from keras_resnext.model_files import load_file
from keras_resnext.training.losses import ends_in_softmax
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.run_folder import write_whole

# Of the loss alone: a probability below this has no logarithm worth keeping.
LEAST = 1e-12


class LearnFrom(keras.layers.Layer):
    """Adds the cross entropy against a teacher to the loss, and gives the student's outputs.

    ``weight * T^2 * CE(student / T, softmax(teacher / T))``, of logits; where a model ends in a
    softmax its logarithm serves, which differs from the logits by a constant. In inference
    nothing is added, and no teacher asked.

    Args:
        teacher: Takes images, gives its outputs; None where the outputs are given in their place.
        teacher_softmax: Whether those are probabilities.
        student_softmax: Whether the student's are.
        temperature: T.
        weight: Of the term.

    Call arguments:
        student: (batch, classes).
        images: What the teacher sees, or its outputs (batch, classes).

    Reference:
        [Hinton et al., 2015](https://arxiv.org/abs/1503.02531),
        [Lee et al., 2020, section 3.2.3](https://arxiv.org/abs/2001.06268)
    """

    def __init__(
        self, teacher, teacher_softmax, student_softmax, temperature=1.0, weight=1.0, **kwargs
    ):
        super().__init__(dtype="float32", **kwargs)
        self.teacher = teacher
        if teacher is not None:
            teacher.trainable = False
        self.teacher_softmax, self.student_softmax = teacher_softmax, student_softmax
        self.temperature, self.weight = temperature, weight

    def call(self, student, images, training=False):
        if training:
            taught = images if self.teacher is None else self.teacher(images, training=False)
            taught = ops.softmax(_logits(taught, self.teacher_softmax) / self.temperature)
            logits = _logits(student, self.student_softmax) / self.temperature
            loss = ops.categorical_crossentropy(taught, logits, from_logits=True)
            self.add_loss(self.weight * self.temperature**2 * ops.mean(loss))
        return student

    def compute_output_shape(self, student_shape, images_shape):
        return student_shape


def _logits(outputs, softmax):
    outputs = ops.cast(outputs, "float32")
    return ops.log(ops.maximum(outputs, LEAST)) if softmax else outputs


def taught_model(student: keras.Model, teacher: keras.Model, recipe: Recipe) -> keras.Model:
    """Give a model that trains a student: the same weights and outputs, and one more loss.

    Args:
        student: A classifier.
        teacher: A classifier of the same images and classes. It is frozen.
        recipe: For the temperature, the weight, and whether the answers are stored.

    Returns:
        A functional model of the student's images, or, where answers are stored, of
        ``[images, answers]``.

    Example:

    >>> def dense():
    ...     layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    ...     return keras.Sequential(layers)
    >>> model = taught_model(dense(), dense(), Recipe(teacher="teacher.keras", temperature=2.0))
    >>> len(model.trainable_variables)  # the student's
    2
    """
    images = student.inputs[0]
    softmax = ends_in_softmax(teacher) or recipe.teacher_stored
    seen, asked = images, teacher
    if recipe.teacher_stored:
        seen, asked = keras.Input(teacher.output_shape[1:], name="teacher"), None
    learn = LearnFrom(
        asked, softmax, ends_in_softmax(student), recipe.temperature, recipe.distilled
    )
    inputs = [images, seen] if recipe.teacher_stored else images
    model = keras.Model(inputs, learn(student.outputs[0], seen), name=student.name)
    # By the policy `compile` decides whether the loss is scaled.
    model.dtype_policy = student.dtype_policy
    return model


def load_teacher(path: str | Path, dataset: Dataset) -> keras.Model:
    """Load a teacher, and check that it can teach.

    Args:
        path: Of a .keras file, or the folder of a run.
        dataset: What is to be learnt.

    Returns:
        A Keras model.

    Raises:
        ValueError: If it cannot be loaded, or has other classes or images.
    """
    teacher = load_file(path)
    if teacher.output_shape[1:] != (dataset.classes,):
        raise ValueError(
            f'The teacher "{path}" gives outputs of shape {teacher.output_shape[1:]}, the data '
            f'"{dataset.name}" has {dataset.classes} classes. Expected as many.'
        )
    shape, expected = teacher.input_shape[1:], (dataset.image_size, dataset.image_size, 3)
    if any(a not in (None, b) for a, b in zip(shape, expected, strict=True)):
        raise ValueError(
            f'The teacher "{path}" takes images of shape {shape}, it would see {expected}.'
        )
    return teacher


def stored_answers(teacher: keras.Model, dataset: Dataset, recipe: Recipe) -> np.ndarray:
    """Ask a teacher once about each training image as testing shows it, and keep what it says.

    The answers are kept beside the teacher, in a file named by its weights and by the images,
    their order, and how they are shown.

    Args:
        teacher: A classifier.
        dataset: Its training part is asked about.
        recipe: Resolved.

    Returns:
        float32 probabilities (count, classes): what mixing images mixes too.
    """
    beside = Path(recipe.teacher)
    folder = beside if beside.is_dir() else beside.parent
    edge = test_edge(dataset, recipe.test_crop)
    path = folder / f"teacher-{_fingerprint(teacher, dataset, edge)}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    batches = part_batches(
        dataset, dataset.train, recipe.step_batch, cache=recipe.cache, crop=recipe.test_crop
    )
    answers = teacher.predict(batches, verbose=0)
    if not ends_in_softmax(teacher):
        answers = ops.convert_to_numpy(ops.softmax(answers))
    answers = np.asarray(answers, np.float32)
    write_whole(path, lambda part: np.save(part, answers, allow_pickle=False))
    return answers


def _fingerprint(teacher: keras.Model, dataset: Dataset, edge: int) -> str:
    digest = hashlib.sha256()
    for weight in teacher.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    for chunk in fingerprint(dataset.train):
        digest.update(chunk)
    seen = dataset.image_size, edge, dataset.mean, dataset.std
    digest.update(repr(seen).encode())
    return digest.hexdigest()[:16]
