"""The speed of a network on this machine: with Keras, folded or exported, in each precision."""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_resnext.checks import check, choice, integers
from keras_resnext.export import FORMATS, PRECISIONS, check_format, export_model
from keras_resnext.weights.fold import fold_batch_norm, with_dtype_policy

FORMS = ("keras", "folded", *FORMATS)
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
OPEN_SIZE = 224


def throughput(
    model: keras.Model,
    forms: Sequence[str] = ("keras", "folded"),
    precisions: Sequence[str] = ("float32",),
    batch_sizes: Sequence[int] = (1, 16),
    seconds: float = 2.0,
) -> Iterator[dict]:
    """Yield the latency and images per second of each form, precision and batch size.

    A form is "keras", "folded" (batch norm) or a format of `export_model`; images are random.
    `compile_seconds` is the time to the first outputs, `seconds` the least time per measurement.
    """
    check_measurable(forms, precisions, batch_sizes)
    for form in forms:
        for precision in precisions:
            if precision in _precisions(form):
                yield from _measured(model, form, precision, batch_sizes, seconds)


def check_measurable(
    forms: Sequence[str], precisions: Sequence[str], batch_sizes: Sequence[int]
) -> None:
    """Raise a `ValueError` if `throughput` cannot measure something here."""
    for form in forms:
        check("form", form, choice(FORMS))
    for precision in precisions:
        check("precision", precision, choice(PRECISIONS))
        if not any(precision in _precisions(form) for form in forms):
            able = [form for form in FORMS if precision in _precisions(form)]
            raise ValueError(
                f'None of the forms {", ".join(forms)} has the precision "{precision}". '
                f"Expected one of {', '.join(able)} among them."
            )
        for form in forms:
            if form in FORMATS and precision in _precisions(form):
                check_format(form, precision)
    check("batch_sizes", list(batch_sizes), integers(1))


def one_operation_at_a_time() -> None:
    """Keep TensorFlow from running several operations at once on a CPU, in this process.

    A convolution uses all cores, and a shortcut beside it only takes its cache: ResNeXt-50 predicts
    up to 7 % faster one by one. It changes nothing after TensorFlow has started, or on other
    backends.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # it has started
            tf.config.threading.set_inter_op_parallelism_threads(1)


def median_seconds(step: Callable[[], object], seconds: float, least: int = 5) -> float:
    """Return the median time of a step, called for some seconds and at least this often."""
    times = []
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _precisions(form: str) -> tuple[str, ...]:
    return FORMATS[form].precisions if form in FORMATS else tuple(POLICIES)


def _measured(
    model: keras.Model, form: str, precision: str, batch_sizes: Sequence[int], seconds: float
) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = make_runner(model, form, precision, Path(folder))
        made = time.perf_counter() - start
        for batch_size in batch_sizes:
            batch = _images(model, batch_size)
            start = time.perf_counter()
            run(batch)
            first = time.perf_counter() - start
            median = median_seconds(lambda batch=batch: run(batch), seconds)
            yield {
                "model": model.name,
                "form": form,
                "precision": precision,
                "batch_size": batch_size,
                "compile_seconds": made + max(first - median, 0.0),
                "latency_ms": median * 1e3,
                "images_per_second": batch_size / median,
            }


def make_runner(model: keras.Model, form: str, precision: str, folder: Path) -> Callable:
    """Return a function of NumPy batches; it needs `folder` until its first call."""
    if form in MAKERS:
        network = MAKERS[form](model, POLICIES[precision])
        return network.predict_on_batch
    row, path = FORMATS[form], folder / f"model{FORMATS[form].suffix}"
    # Noise calibrates badly, and takes as long.
    images = [_images(model, 1) for _ in range(4)]
    export_model(model, path, form, precision, images)
    return row.open(path)


MAKERS = {"keras": with_dtype_policy, "folded": fold_batch_norm}


def _images(model: keras.Model, count: int) -> np.ndarray:
    shape = (count, *(size or OPEN_SIZE for size in model.input_shape[1:]))
    random = np.random.default_rng(0)
    if model.inputs[0].dtype == "uint8":
        return random.integers(0, 256, shape, "uint8")
    return random.normal(0, 1, shape).astype("float32")
