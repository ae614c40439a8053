"""Export of models for other runtimes: a table of formats, and a check of each file written."""

import functools
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_resnext.checks import check, choice

if TYPE_CHECKING:
    import keras
    import onnx
    import openvino
    import tensorflow as tf

Images = Sequence[np.ndarray]

PRECISIONS = ("float32", "bfloat16", "int8")
EXTRA = "pip install -e '.[export]'"
# OpenVINO computes float32 files in bfloat16 if the processor can, unless this hint is given when
# it opens them: it goes into the file's runtime information, for `open` to find.
OPENVINO_HINTS = {"float32": "f32", "bfloat16": "bf16"}
HINT = "INFERENCE_PRECISION_HINT"
# OpenVINO computes a large batch in parts of so many input values, two photographs of 224 pixels,
# whose feature maps stay in the cache. ResNeXt-50 is 5 % faster for that, in bfloat16 9 %.
VALUES_AT_ONCE = 2 * 224 * 224 * 3


@dataclass(frozen=True)
class Format:
    """A row of the table of formats.

    Args:
        suffix: str, suffix of the file; empty for a folder.
        precisions: tuple of str, the precisions that it can be written in.
        packages: dict of the packages that it needs, for every precision under "" and for one
            under its name.
        write: Function of a folded model, the path, the precision and images to calibrate with.
        open: Function of the path that returns a function from a NumPy batch to a NumPy batch.
    """

    suffix: str
    precisions: tuple[str, ...]
    packages: dict[str, tuple[str, ...]]
    write: Callable
    open: Callable


def export_model(
    model: "keras.Model",
    path: str | Path,
    format: str = "savedmodel",
    precision: str = "float32",
    images: Images | None = None,
    preprocessing: "keras.Layer | None" = None,
) -> dict:
    """Write a model for another runtime, batch norm folded, and compare the file with the model.

    Args:
        model: Functional `keras.Model` of one input, on the TensorFlow backend.
        path: str, path to write: a folder for "savedmodel", or a file with the format's suffix
            (`.onnx`, `.xml` with its `.bin` beside it, `.tflite`).
        format: str, "savedmodel", "onnx", "openvino" or "litert".
        precision: str, "float32"; "bfloat16" (for "savedmodel" and "openvino"; weights stay
            float32); "int8" (for "openvino", "onnx" and "litert"), calibrated with `images`.
        images: Sequence of batches, as the exported model takes them, to check and to calibrate
            with. Defaults to photographs that come with scikit-learn, for the check only.
        preprocessing: `Preprocessing` layer to put in front, so that the exported model takes
            uint8 images of any size.

    Returns:
        A dictionary: `path`, `images` (how many were compared), `largest_difference` between the
        exported model and the model, `largest_output` of the model, and `same_top1`, the share of
        images for which both have the same best class.

    Raises:
        ValueError: Before any work, if the format is unknown or does not have the precision, a
            package is missing, the path exists, or int8 has no images.

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
    """Return the row of a format, or raise a `ValueError` if it cannot be written here."""
    check("format", format, choice(FORMATS))
    check("precision", precision, choice(PRECISIONS))
    row = FORMATS[format]
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
    """Raise a `ValueError` if a format cannot be written to a path."""
    path, suffix = Path(path), FORMATS[format].suffix
    if path.suffix != suffix and (suffix or path.suffix in _SUFFIXES):
        wanted = f"a name that ends in {suffix}" if suffix else "the name of a folder"
        raise ValueError(f'The format "{format}" needs {wanted}. Received: "{path}"')
    if os.path.lexists(path):
        raise ValueError(f'"{path}" exists already. Name another, or remove it.')
    if not path.absolute().parent.is_dir():
        raise ValueError(f'There is no folder "{path.absolute().parent}" to write to.')


def compare(exported: Callable, model: "keras.Model", images: Images) -> dict:
    """Compare an exported model, a function of batches, with the original: see `export_model`."""
    outputs = np.concatenate([exported(batch) for batch in images])
    expected = np.concatenate([np.asarray(model.predict_on_batch(batch)) for batch in images])
    return {
        "images": len(expected),
        "largest_difference": float(np.abs(outputs - expected).max()),
        "largest_output": float(np.abs(expected).max()),
        "same_top1": float(np.mean(outputs.argmax(-1) == expected.argmax(-1))),
    }


def sample_images(model: "keras.Model") -> list[np.ndarray]:
    """Return scikit-learn's two photographs, and six parts of each, as a model takes them.

    If the size of its input is open, it is 224 pixels; channels are repeated or dropped as needed.
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
    colors = [channel % 3 for channel in range(channels)]
    return [np.asarray(layer(batch))[:, :height, :width, colors] for batch in batches]


def _check_backend() -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Exporting runs on TensorFlow; a .keras file is the same for every backend. Set "
            f"KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}"
        )


def _with(preprocessing: "keras.Layer | None", model: "keras.Model") -> "keras.Model":
    """Return the model with a layer in front of it, for images of any size."""
    import keras

    if preprocessing is None:
        return model
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    return keras.Model(image, model(preprocessing(image)), name=model.name)


def _pixel_layers(model: "keras.Model") -> list[str]:
    """Return the names of layers that compute with pixels, which stay in float32."""
    from keras_resnext.layers import Preprocessing

    return [layer.name for layer in model.layers if isinstance(layer, Preprocessing)]


# -------------------------------------------------------------------------------------- SavedModel


def _write_saved_model(model: "keras.Model", path: Path, precision: str, images: Images) -> None:
    """Write weights as constants, which TensorFlow casts and reorders only once."""
    import tensorflow as tf

    image = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name="image")
    frozen = _frozen(model, image)
    module = tf.Module()
    module.serve = tf.function(lambda image: {"output": frozen(image)}, input_signature=[image])
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _frozen(model: "keras.Model", image: "tf.TensorSpec") -> Callable:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    run = tf.function(lambda image: model(image, training=False), input_signature=[image])
    frozen = convert_variables_to_constants_v2(run.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # needed for gradients only, and loading would warn of it
        node.attr.pop("_gradient_op_type", None)
    imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    return imported.prune(frozen.inputs[0].name, frozen.outputs[0].name)


def _open_saved_model(path: Path) -> Callable:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    serve.loaded = loaded  # or its resources would be freed
    return lambda batch: serve(tf.constant(batch))["output"].numpy()


# -------------------------------------------------------------------------------------------- ONNX


def _write_onnx(model: "keras.Model", path: Path, precision: str, images: Images) -> None:
    model(images[0])  # Keras exports only what was called
    model.export(str(path), format="onnx", verbose=False)
    if precision == "int8":
        _quantize_onnx(path, images, _pixel_layers(model))


def _quantize_onnx(path: Path, images: Images, pixels: Sequence[str]) -> None:
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
        def get_next(self) -> dict | None:
            image = next(batches, None)
            return None if image is None else {graph.input[0].name: image}

    with tempfile.TemporaryDirectory() as folder:  # the source must not be the target
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


def _open_onnx(path: Path) -> Callable:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (image,) = session.get_inputs()
    return lambda batch: session.run(None, {image.name: batch})[0]


def _is_grouped(node: "onnx.NodeProto") -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


# ---------------------------------------------------------------------------------------- OpenVINO


def _write_openvino(model: "keras.Model", path: Path, precision: str, images: Images) -> None:
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


def _drop_dead_ends(converted: "openvino.Model") -> None:
    """Remove outputs for gradients, which would copy every feature map and prevent fusion."""
    for result in converted.get_results():
        if "Identity:0" not in result.input_value(0).get_names():
            converted.remove_result(result)


def _quantized_openvino(
    converted: "openvino.Model", images: Images, pixels: Sequence[str]
) -> "openvino.Model":
    """Quantize for a batch of one: OpenVINO 2026.4 computes int8 wrongly if the size is open."""
    import nncf

    _fix_batch_size(converted, 1)
    ignored = None
    if pixels:
        patterns = [f".*{re.escape(name)}.*" for name in pixels]
        ignored = nncf.IgnoredScope(patterns=patterns, validate=False)
    return nncf.quantize(converted, nncf.Dataset(_OneByOne(images)), ignored_scope=ignored)


class _OneByOne:
    """The images of batches, each as its own batch, for repeated iteration."""

    def __init__(self, batches: Images) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image[None] for batch in self.batches for image in batch)


def _fix_batch_size(model: "openvino.Model", size: int) -> None:
    model.reshape([size, *list(model.input(0).partial_shape)[1:]])


def _open_openvino(path: Path) -> Callable:
    import openvino

    core = openvino.Core()
    model, place = core.read_model(str(path)), ["keras_resnext", HINT]
    hints = {HINT: model.get_rt_info(place).astype(str)} if model.has_rt_info(place) else {}

    @functools.cache
    def compiled(size: int, aim: str) -> "openvino.CompiledModel":
        _fix_batch_size(model, size)  # which is faster
        return core.compile_model(model, "CPU", {**hints, "PERFORMANCE_HINT": aim})

    @functools.cache
    def side_by_side(size: int) -> "openvino.AsyncInferQueue":
        queue = openvino.AsyncInferQueue(compiled(size, "THROUGHPUT"))
        queue.set_callback(_store_output)
        return queue

    def run(batch: np.ndarray) -> np.ndarray:
        size = max(1, VALUES_AT_ONCE * len(batch) // batch.size)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        outputs = [None] * len(parts)
        for place, part in enumerate(parts):
            if len(parts) > 1 and len(part) == size:
                side_by_side(size).start_async([part], (outputs, place), share_inputs=True)
            else:
                outputs[place] = compiled(len(part), "LATENCY")(part)[0].copy()
        if len(parts) > 1:
            side_by_side(size).wait_all()
        return np.concatenate(outputs)

    return run


def _store_output(request: "openvino.InferRequest", target: tuple[list, int]) -> None:
    outputs, place = target
    outputs[place] = request.get_output_tensor(0).data.copy()


# ------------------------------------------------------------------------------------------ LiteRT


def _write_litert(model: "keras.Model", path: Path, precision: str, images: Images) -> None:
    options = {} if precision == "float32" else _litert_int8(images)
    model.export(str(path), format="litert", verbose=False, **options)


def _litert_int8(images: Images) -> dict:
    """Return options for int8 weights and activations of every operation with an int8 kernel."""
    import tensorflow as tf

    sets = tf.lite.OpsSet
    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image] for image in _OneByOne(images)),
        "target_spec": {"supported_ops": [sets.TFLITE_BUILTINS_INT8, sets.TFLITE_BUILTINS]},
    }


def _open_litert(path: Path) -> Callable:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = []

    def run(batch: np.ndarray) -> np.ndarray:
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
