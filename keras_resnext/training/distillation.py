"""Learning from a teacher: a term of the loss, with the teacher as a model or as stored answers."""

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

# In the loss, smaller probabilities have no useful logarithm.
LEAST = 1e-12


class LearnFrom(keras.layers.Layer):
    """Add the cross entropy against a teacher to the loss, and return the student's outputs.

    `weight * T^2 * CE(student / T, softmax(teacher / T))` of logits (arXiv 1503.02531); the
    logarithm of a softmax serves as logits. Without a `teacher`, `images` are its outputs.
    Inference adds nothing.
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
        """Return `student`, and in training add the loss."""
        if training:
            answers = images if self.teacher is None else self.teacher(images, training=False)
            answers = ops.softmax(_logits(answers, self.teacher_softmax) / self.temperature)
            logits = _logits(student, self.student_softmax) / self.temperature
            loss = ops.categorical_crossentropy(answers, logits, from_logits=True)
            self.add_loss(self.weight * self.temperature**2 * ops.mean(loss))
        return student

    def compute_output_shape(self, student_shape: tuple, images_shape: tuple) -> tuple:
        """Return the shape of the student's outputs."""
        return student_shape


def _logits(outputs: keras.KerasTensor, softmax: bool) -> keras.KerasTensor:
    outputs = ops.cast(outputs, "float32")
    return ops.log(ops.maximum(outputs, LEAST)) if softmax else outputs


def taught_model(student: keras.Model, teacher: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model that trains a student: the same weights and outputs, and one more loss.

    If the recipe stores the teacher's answers, its inputs are `[images, answers]`.
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
    # `compile` decides by the policy whether to scale the loss.
    model.dtype_policy = student.dtype_policy
    return model


def load_teacher(path: str | Path, dataset: Dataset) -> keras.Model:
    """Load a .keras file or a run's folder, or raise a `ValueError` if it cannot teach the data."""
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
    """Return a teacher's probabilities (count, classes) for the training images, not augmented.

    They are cached beside the teacher, under a hash of its weights and the images.
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
