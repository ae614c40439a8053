"""Learning from a teacher: a term of the loss; it is a model, or its stored answers."""

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

# In the loss alone: a probability below this has no useful logarithm.
LEAST = 1e-12


class LearnFrom(keras.layers.Layer):
    """Add the cross entropy against a teacher to the loss, and return the student's outputs.

    `weight * T^2 * CE(student / T, softmax(teacher / T))`, of logits; if a model ends in a softmax,
    its logarithm serves, which differs from the logits by a constant. In inference nothing is
    added, and the teacher is not called.

    Args:
        teacher: A `keras.Model` of images, or None if its outputs are given instead of images.
        teacher_softmax: bool, whether the teacher's outputs are probabilities.
        student_softmax: bool, whether the student's are.
        temperature: float, T.
        weight: float, weight of the term.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        student: Tensor of shape (batch, classes), the student's outputs.
        images: Tensor, what the teacher sees, or its outputs of shape (batch, classes).

    Reference:
        [Hinton et al., 2015](https://arxiv.org/abs/1503.02531),
        [Lee et al., 2020, section 3.2.3](https://arxiv.org/abs/2001.06268)
    """

    def __init__(
        self,
        teacher: keras.Model | None,
        teacher_softmax: bool,
        student_softmax: bool,
        temperature: float = 1.0,
        weight: float = 1.0,
        **kwargs: object,
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.teacher = teacher
        if teacher is not None:
            teacher.trainable = False
        self.teacher_softmax, self.student_softmax = teacher_softmax, student_softmax
        self.temperature, self.weight = temperature, weight

    def call(
        self, student: keras.KerasTensor, images: keras.KerasTensor, training: bool = False
    ) -> keras.KerasTensor:
        if training:
            answers = images if self.teacher is None else self.teacher(images, training=False)
            answers = ops.softmax(_logits(answers, self.teacher_softmax) / self.temperature)
            logits = _logits(student, self.student_softmax) / self.temperature
            loss = ops.categorical_crossentropy(answers, logits, from_logits=True)
            self.add_loss(self.weight * self.temperature**2 * ops.mean(loss))
        return student

    def compute_output_shape(self, student_shape: tuple, images_shape: tuple) -> tuple:
        return student_shape


def _logits(outputs: keras.KerasTensor, softmax: bool) -> keras.KerasTensor:
    outputs = ops.cast(outputs, "float32")
    return ops.log(ops.maximum(outputs, LEAST)) if softmax else outputs


def taught_model(student: keras.Model, teacher: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model that trains a student: the same weights and outputs, and one more loss.

    Args:
        student: A classifier, a `keras.Model`.
        teacher: A classifier of the same images and classes. It is frozen.
        recipe: Recipe, for the temperature, the weight, and whether the answers are stored.

    Returns:
        A functional `keras.Model` of the student's images, or, if answers are stored, of
        `[images, answers]`.

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
    seen = images
    if recipe.teacher_stored:
        seen, teacher = keras.Input(teacher.output_shape[1:], name="teacher"), None
    learn = LearnFrom(
        teacher, softmax, ends_in_softmax(student), recipe.temperature, recipe.distilled
    )
    inputs = [images, seen] if recipe.teacher_stored else images
    model = keras.Model(inputs, learn(student.outputs[0], seen), name=student.name)
    # By the policy `compile` decides whether the loss is scaled.
    model.dtype_policy = student.dtype_policy
    return model


def load_teacher(path: str | Path, dataset: Dataset) -> keras.Model:
    """Load a teacher, and check that it can teach.

    Args:
        path: str, path of a .keras file, or of a run's folder.
        dataset: Dataset that is to be learned.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If it cannot be loaded, or has other classes or images.
    """
    teacher = load_file(path)
    if teacher.output_shape[1:] != (dataset.classes,):
        raise ValueError(
            f'The teacher "{path}" returns outputs of shape {teacher.output_shape[1:]}, the data '
            f'"{dataset.name}" has {dataset.classes} classes. Expected the same number.'
        )
    shape, expected = teacher.input_shape[1:], (dataset.image_size, dataset.image_size, 3)
    if any(a not in (None, b) for a, b in zip(shape, expected, strict=True)):
        raise ValueError(
            f'The teacher "{path}" takes images of shape {shape}, it would see {expected}.'
        )
    return teacher


def stored_answers(teacher: keras.Model, dataset: Dataset, recipe: Recipe) -> np.ndarray:
    """Return a teacher's answers for each training image as testing shows it.

    They are stored beside the teacher, in a file named after its weights and after the images,
    their order, and how they are shown.

    Args:
        teacher: A classifier, a `keras.Model`.
        dataset: Dataset, for its training part.
        recipe: Recipe, resolved.

    Returns:
        Array of float32 probabilities of shape (count, classes): what mixing images mixes too.
    """
    place = Path(recipe.teacher)
    folder = place if place.is_dir() else place.parent
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
