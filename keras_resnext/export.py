"""Models as files that other runtimes take: a table of formats, each checked once written."""

import functools
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_resnext.errors import one_of, unknown

PRECISIONS = ("float32", "bfloat16", "int8")
EXTRA = "pip install -e '.[export]'"
# OpenVINO computes float32 files in bfloat16 where the processor can, unless it is told this when
# it opens them: it goes into the file's runtime information, for `open` to find.
OPENVINO_HINTS = {"float32": "f32", "bfloat16": "bf16"}
HINT = "INFERENCE_PRECISION_HINT"
# OpenVINO answers a large batch in parts of so many input values, whose feature maps stay in the
# cache: two photographs of 224 pixels; as many at a time, by threads of their own, as suits the
# processor. By the parts alone ResNeXt-50 is 5 % faster, in bfloat16 9 %.
VALUES_AT_ONCE = 2 * 224 * 224 * 3


@dataclass(frozen=True)
class Format:
    """A row of the table of formats.

    Args:
        suffix: Of the file; empty for a folder.
        precisions: What it can be written in.
        packages: Needed beyond those of the package itself; those of a precision by its name.
        write: Takes a folded model, the path, the precision and the images to calibrate with.
        open: Takes the path; gives a function from a NumPy batch to a NumPy batch.
    """

    suffix: str
    precisions: tuple[str, ...]
    packages: dict[str, tuple[str, ...]]
    write: Callable
    open: Callable


def export_model(
    model,
    path: str | Path,
    format: str = "savedmodel",
    precision: str = "float32",
    images: Sequence[np.ndarray] | None = None,
    preprocessing=None,
) -> dict:
    """Write a model for another runtime, batch norm folded, and check what was written.

    Args:
        model: A functional `keras.Model` of one input, on the TensorFlow backend.
        path: To write: a folder for "savedmodel", or a file, with the format's suffix
            (``.onnx``, ``.xml`` with its ``.bin`` beside it, ``.tflite``).
        format: "savedmodel", "onnx", "openvino" or "litert".
        precision: "float32"; "bfloat16" (of "savedmodel" and "openvino"; weights stay float32);
            "int8" (of "openvino", "onnx" and "litert"), for which ``images`` calibrate.
        images: Batches to check and to calibrate with, as the exported model takes them, in a
            sequence that may read them when they are asked for. Default:
            photographs that come with scikit-learn, for the check only.
        preprocessing: A ``Preprocessing`` layer to put in front, so that what is exported takes
            uint8 images of any size.

    Returns:
        ``path``, ``images`` (how many were compared), ``largest_difference`` between what was
        exported and the model, ``largest_output`` of the model, and ``same_top1``, the share of
        images of which both say the same.

    Raises:
        ValueError: Before any work, for an unknown format, a precision that it does not have, a
            package that is missing, a path that exists, or int8 without images.

    Example:

    >>> import keras_resnext, tempfile
    >>> model = keras_resnext.ResNeXt35(blocks=(1, 1, 1))
    >>> report = export_model(model, tempfile.mkdtemp() + "/model")
    >>> report["same_top1"], report["largest_difference"] < 1e-4
    (1.0, True)
    """
    path = Path(path)
    row = check_format(format, precision, calibrated=images is not None)
    check_path(path, format)
    _check_backend()

    from keras_resnext.models.description import warn_of_range
    from keras_resnext.weights.fold import fold_batch_norm

    folded = fold_batch_norm(model, "mixed_bfloat16" if precision == "bfloat16" else "float32")
    if format == "openvino":  # which casts by itself, and better
        folded = fold_batch_norm(model, "float32")
    whole, reference = (_with(preprocessing, network) for network in (folded, model))
    if images is None:
        images = sample_images(whole)
    warn_of_range(whole, images[0])
    with tempfile.TemporaryDirectory(dir=path.absolute().parent) as folder:
        row.write(whole, Path(folder, path.name), precision, images)
        for written in Path(folder).iterdir():
            shutil.move(written, path.absolute().parent / written.name)
    return {"path": str(path), **compare(row.open(path), reference, images)}


def check_format(format: str, precision: str, calibrated: bool = True) -> Format:
    """Give the row of a format, if it can be written here in that precision.

    Args:
        format: Its name.
        precision: One of ``PRECISIONS``.
        calibrated: Whether there are images to calibrate with.

    Raises:
        ValueError: If not, saying what can.
    """
    if format not in FORMATS:
        raise ValueError(unknown("format", format, FORMATS))
    row = FORMATS[format]
    one_of("precision", precision, PRECISIONS)
    if precision not in row.precisions:
        others = [name for name, other in FORMATS.items() if precision in other.precisions]
        raise ValueError(
            f'The format "{format}" is written in {" or ".join(row.precisions)}, not in '
            f"{precision}, which {', '.join(others)} can be."
        )
    needed = (*row.packages.get("", ()), *row.packages.get(precision, ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'The format "{format}" in {precision} needs {", ".join(missing)}, which is not '
            f"installed: {EXTRA}"
        )
    if precision == "int8" and not calibrated:
        raise ValueError(
            "int8 is calibrated on images of the kind that the model will see: give `images` "
            "(--calibrate FOLDER)."
        )
    return row


def check_path(path: str | Path, format: str) -> None:
    """Refuse a path that a format cannot be written to.

    Args:
        path: Of the file or folder.
        format: Its name.

    Raises:
        ValueError: If the suffix is wrong, something is there, or its folder is not.
    """
    path, suffix = Path(path), FORMATS[format].suffix
    if path.suffix != suffix and (suffix or path.suffix in _SUFFIXES):
        wanted = f"a name that ends in {suffix}" if suffix else "the name of a folder"
        raise ValueError(f'The format "{format}" needs {wanted}. Received: "{path}"')
    if os.path.lexists(path):
        raise ValueError(f'"{path}" exists already. Name another, or remove it.')
    if not path.absolute().parent.is_dir():
        raise ValueError(f'There is no folder "{path.absolute().parent}" to write to.')


def compare(exported: Callable, model, images: Sequence[np.ndarray]) -> dict:
    """Compare what was exported with the model that it was exported from.

    Args:
        exported: From a batch to its outputs.
        model: Built; the same.
        images: Batches.

    Returns:
        What ``export_model`` returns, but for the path.
    """
    found = np.concatenate([exported(batch) for batch in images])
    expected = np.concatenate([np.asarray(model.predict_on_batch(batch)) for batch in images])
    return {
        "images": len(expected),
        "largest_difference": float(np.abs(found - expected).max()),
        "largest_output": float(np.abs(expected).max()),
        "same_top1": float(np.mean(found.argmax(-1) == expected.argmax(-1))),
    }


def sample_images(model) -> list[np.ndarray]:
    """Real photographs as a model takes them: scikit-learn's two, and five parts of each.

    Args:
        model: Takes uint8 photographs as they are, or float images of its input shape, 224 pixels
            where that is open; colours are repeated or left out where it has other channels.
    """
    from sklearn.datasets import load_sample_images

    from keras_resnext.layers import Preprocessing

    photographs = load_sample_images().images
    parts = [
        photograph[top : top + 213, left : left + 320]
        for photograph in photographs
        for top in (0, 107, 214)
        for left in (0, 320)
    ]
    batches = [image[None] for image in (*photographs, *parts)]
    if model.inputs[0].dtype == "uint8":
        return batches
    height, width, channels = model.input_shape[1:]
    height, width = height or 224, width or 224
    layer = Preprocessing(max(height, width))
    colours = [channel % 3 for channel in range(channels)]
    return [np.asarray(layer(batch))[:, :height, :width, colours] for batch in batches]


def _check_backend() -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Exporting runs on TensorFlow; a .keras file is the same for every backend. Set "
            f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}"
        )


def _with(preprocessing, model):
    """The model with a layer in front of it, for images of any size."""
    import keras

    if preprocessing is None:
        return model
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    return keras.Model(image, model(preprocessing(image)), name=model.name)


def _pixel_layers(model):
    """The names of layers whose numbers are pixels, which stay in float32."""
    from keras_resnext.layers import Preprocessing

    return [layer.name for layer in model.layers if isinstance(layer, Preprocessing)]


# -------------------------------------------------------------------------------------- SavedModel


def _write_saved_model(model, path, precision, images):
    """With constants for weights: what TensorFlow casts and reorders once, not in every call."""
    import tensorflow as tf

    image = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name="image")
    frozen = _frozen(model, image)
    module = tf.Module()
    module.serve = tf.function(lambda image: {"output": frozen(image)}, input_signature=[image])
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _frozen(model, image):
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    run = tf.function(lambda image: model(image, training=False), input_signature=[image])
    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # nobody differentiates it, and loading would warn of it
        node.attr.pop("_gradient_op_type", None)
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return imported.prune(frozen.inputs[0].name, frozen.outputs[0].name)


def _open_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    serve.kept = loaded  # or its resources would go
    return lambda batch: serve(tf.constant(batch))["output"].numpy()


# -------------------------------------------------------------------------------------------- ONNX


def _write_onnx(model, path, precision, images):
    model(images[0])  # Keras exports only what was called
    model.export(str(path), format="onnx", verbose=False)
    if precision == "int8":
        _quantize_onnx(path, images, _pixel_layers(model))


def _quantize_onnx(path, images, pixels):
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(path).graph
    ignored = [
        node.name
        for node in graph.node
        if _is_grouped(node) or any(name in node.name for name in pixels)
    ]
    batches = iter(_OneByOne(images))

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            image = next(batches, None)
            return None if image is None else {graph.input[0].name: image}

    with tempfile.TemporaryDirectory() as folder:  # it reads the one while it writes the other
        plain = shutil.move(path, os.path.join(folder, "plain.onnx"))
        quantization.quantize_static(
            plain,
            str(path),
            Reader(),
            # Signed activations, sums, ReLUs and grouped convolutions are slower than in float32.
            op_types_to_quantize=["Conv", "MatMul"],
            activation_type=quantization.QuantType.QUInt8,
            per_channel=True,
            nodes_to_exclude=ignored,
        )


def _open_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (image,) = session.get_inputs()
    return lambda batch: session.run(None, {image.name: batch})[0]


def _is_grouped(node):
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


# ---------------------------------------------------------------------------------------- OpenVINO


def _write_openvino(model, path, precision, images):
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "model.xml")
        model.export(plain, format="openvino", verbose=False)
        converted = openvino.Core().read_model(plain)
        _drop_dead_ends(converted)
        if precision == "int8":
            converted = _quantized_openvino(converted, images, _pixel_layers(model))
        if precision in OPENVINO_HINTS:
            converted.set_rt_info(OPENVINO_HINTS[precision], ["keras_resnext", HINT])
        openvino.save_model(converted, str(path), compress_to_fp16=False)


def _drop_dead_ends(converted):
    """OpenVINO takes for outputs what only the gradients of TensorFlow's graph would read. Copies
    of every feature map they would be, and keep convolutions from being fused with what follows."""
    for result in converted.get_results():
        if "Identity:0" not in result.input_value(0).get_names():
            converted.remove_result(result)


def _quantized_openvino(converted, images, pixels):
    """Calibrated one by one, for a batch of one: OpenVINO 2026.4 answers nonsense in int8 where the
    batch size is open. Whoever reads the file may reshape it to another size."""
    import nncf

    _fix_batch_size(converted, 1)
    ignored = None
    if pixels:
        patterns = [f".*{re.escape(name)}.*" for name in pixels]
        ignored = nncf.IgnoredScope(patterns=patterns, validate=False)
    return nncf.quantize(converted, nncf.Dataset(_OneByOne(images)), ignored_scope=ignored)


class _OneByOne:
    """The images of batches, each in a batch of its own, as often as they are asked for."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return (image[None] for batch in self.batches for image in batch)


def _fix_batch_size(model, size):
    model.reshape([size, *list(model.input(0).partial_shape)[1:]])


def _open_openvino(path):
    import openvino

    core = openvino.Core()
    model, place = core.read_model(str(path)), ["keras_resnext", HINT]
    hints = {HINT: model.get_rt_info(place).astype(str)} if model.has_rt_info(place) else {}

    @functools.cache
    def compiled(size, aim):
        _fix_batch_size(model, size)  # which is faster
        return core.compile_model(model, "CPU", {**hints, "PERFORMANCE_HINT": aim})

    @functools.cache
    def side_by_side(size):
        queue = openvino.AsyncInferQueue(compiled(size, "THROUGHPUT"))
        queue.set_callback(_keep_answer)
        return queue

    def run(batch):
        size = max(1, VALUES_AT_ONCE * len(batch) // batch.size)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        answers = [None] * len(parts)
        for place, part in enumerate(parts):
            if len(parts) > 1 and len(part) == size:
                side_by_side(size).start_async([part], (answers, place), share_inputs=True)
            else:
                answers[place] = compiled(len(part), "LATENCY")(part)[0].copy()
        if len(parts) > 1:
            side_by_side(size).wait_all()
        return np.concatenate(answers)

    return run


def _keep_answer(request, there):
    answers, place = there
    answers[place] = request.get_output_tensor(0).data.copy()


# ------------------------------------------------------------------------------------------ LiteRT


def _write_litert(model, path, precision, images):
    options = {} if precision == "float32" else _litert_int8(images)
    model.export(str(path), format="litert", verbose=False, **options)


def _litert_int8(images):
    """The weights and the activations of every operation that has an int8 kernel."""
    import tensorflow as tf

    sets = tf.lite.OpsSet
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image] for image in _OneByOne(images)),
        "target_spec": {"supported_ops": [sets.TFLITE_BUILTINS_INT8, sets.TFLITE_BUILTINS]},
    }


def _open_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = []

    def run(batch):
        if list(batch.shape) != shape:
            shape[:] = batch.shape
            interpreter.resize_tensor_input(image["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return run


FORMATS = {
    "savedmodel": Format("", ("float32", "bfloat16"), {}, _write_saved_model, _open_saved_model),
    "onnx": Format(
        ".onnx",
        ("float32", "int8"),
        {"": ("onnx", "tf2onnx", "onnxruntime")},
        _write_onnx,
        _open_onnx,
    ),
    "openvino": Format(
        ".xml", PRECISIONS, {"": ("openvino",), "int8": ("nncf",)}, _write_openvino, _open_openvino
    ),
    "litert": Format(
        ".tflite", ("float32", "int8"), {"": ("ai_edge_litert",)}, _write_litert, _open_litert
    ),
}
_SUFFIXES = {row.suffix for row in FORMATS.values()} - {""}
