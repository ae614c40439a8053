"""What was exported, opened in its own runtime, against the model it came from."""

import dataclasses
import functools
import importlib.util
import json

import keras
import numpy as np
import pytest
from PIL import Image
from toy import transformed

from keras_resnext import cli, create_model, describe, export
from keras_resnext.evaluation.classifier import load_classifier
from keras_resnext.evaluation.image_files import read_image
from keras_resnext.export import FORMATS, export_model, sample_images
from keras_resnext.models import variants

pytestmark = pytest.mark.only_tensorflow
# Largest difference of probabilities: rounding, seven digits of bfloat16, 256 levels.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.15}
# For each size of picture OpenVINO compiles anew.
SLOW = {("openvino", True): pytest.mark.slow}
CASES = [
    pytest.param(
        format,
        precision,
        inside,
        id=f"{format}-{precision}{'-inside' * inside}",
        marks=SLOW.get((format, inside), ()),
    )
    for format, row in FORMATS.items()
    for precision in row.precisions
    for inside in (False, True)
]


def skip_without(format, precision):
    row = FORMATS[format]
    for package in (*row.packages.get("", ()), *row.packages.get(precision, ())):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported(classifier, pictures, tmp_path_factory):
    """`exported(format, precision, inside)`: the path, the report and the images; written once."""

    @functools.cache
    def exported(format, precision, inside=False):
        skip_without(format, precision)
        read = read_image if inside else transformed
        images = [np.asarray(read(path))[None] for path in sorted(pictures.iterdir())]
        layer = classifier.preprocessing if inside else None
        path = tmp_path_factory.mktemp(format) / f"model{FORMATS[format].suffix}"
        return path, export_model(classifier.model, path, format, precision, images, layer), images

    return exported


@pytest.mark.parametrize("format, precision, inside", CASES)
def test_every_format(classifier, pictures, exported, monkeypatch, format, precision, inside):
    path, report, images = exported(format, precision, inside)
    paths = sorted(pictures.iterdir())
    x = np.stack([transformed(path) for path in paths])
    expected = np.asarray(classifier.model.predict_on_batch(x))
    run = FORMATS[format].open(path)
    found = np.concatenate([run(image) for image in images])
    # Inside, pixels are rounded after each direction of resizing.
    off = np.abs(found - expected).max()
    assert off <= TOLERANCES[precision] + 0.1 * inside
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    if not inside:
        assert report["largest_difference"] == pytest.approx(off, abs=1e-5)
        monkeypatch.setattr(export, "VALUES_AT_ONCE", 5 * x[0].size)  # the last part is smaller
        batch = run(x)  # any batch size
        np.testing.assert_allclose(batch, found, atol=max(1e-5, TOLERANCES[precision] / 5))
    assert report["largest_difference"] <= TOLERANCES[precision]
    assert report["images"] == 12 and report["same_top1"] == 1
    assert report["largest_output"] == pytest.approx(expected.max(), abs=0.1 * inside + 1e-5)


def test_it_says_so_when_the_export_differs(classifier, tmp_path, monkeypatch):
    row = FORMATS["savedmodel"]

    def halved(path):
        run = row.open(path)
        return lambda batch: 0.5 * run(batch)

    monkeypatch.setitem(FORMATS, "savedmodel", dataclasses.replace(row, open=halved))
    report = export_model(classifier.model, tmp_path / "model")
    assert report["largest_difference"] == pytest.approx(report["largest_output"] / 2, rel=1e-3)
    assert report["images"] == 14  # photographs of scikit-learn's


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_int8_is_int8(exported, format):
    kind, kinds = OPERATIONS[format](exported(format, "int8")[0])
    assert kinds.count(kind) >= 7  # each convolution that is not grouped, and the classifier


def _openvino_operations(path):
    import openvino

    return "FakeQuantize", [op.get_type_name() for op in openvino.Core().read_model(path).get_ops()]


def _onnx_operations(path):
    import onnx

    return "QuantizeLinear", [node.op_type for node in onnx.load(path).graph.node]


OPERATIONS = {"openvino": _openvino_operations, "onnx": _onnx_operations}


@pytest.mark.parametrize("format", [name for name, row in FORMATS.items() if row.suffix])
def test_one_output(exported, format):
    """What only gradients read is no output: it would cost a copy and a fusion each."""
    assert OUTPUTS[format](exported(format, "float32")[0]) == 1


def _openvino_outputs(path):
    import openvino

    return len(openvino.Core().read_model(path).outputs)


def _onnx_outputs(path):
    import onnx

    return len(onnx.load(path).graph.output)


def _litert_outputs(path):
    from ai_edge_litert.interpreter import Interpreter

    return len(Interpreter(str(path)).get_output_details())


OUTPUTS = {"openvino": _openvino_outputs, "onnx": _onnx_outputs, "litert": _litert_outputs}


def test_images_of_another_range_are_warned_of(run_folder, tmp_path):
    """On pixels a model that wants normalized images would be checked for nothing."""
    classifier = load_classifier(run_folder)
    describe(classifier.model, classifier.preprocessing)
    pixels = [np.full((1, 32, 32, 3), 200, "float32")]
    with pytest.warns(UserWarning, match="expects normalized images"):
        export_model(classifier.model, tmp_path / "model", images=pixels)


@pytest.mark.parametrize("shape", [(96, 64, 3), (32, 32, 1), (None, 48, 4)], ids=str)
def test_photographs_of_the_models_own_shape(shape):
    """Of another height than width, and of other than three channels."""
    inputs = keras.Input(shape)
    images = sample_images(keras.Model(inputs, keras.layers.Flatten()(inputs)))
    assert {image.shape for image in images} == {(1, shape[0] or 224, *shape[1:])}
    assert len({image.tobytes() for image in images}) == 14


def test_a_network_of_another_height_than_width(tmp_path):
    config = variants.get("ResNet20").config.replace(blocks=(1, 1, 1))
    report = export_model(create_model(config, input_shape=(96, 64, 3)), tmp_path / "model")
    assert report["images"] == 14 and report["largest_difference"] < 1e-4


def test_a_mixed_model_is_exported_in_float32(classifier, tmp_path):
    from keras_resnext.weights.fold import with_dtype_policy

    model = classifier.model
    half = with_dtype_policy(model, "mixed_bfloat16")
    images = [np.zeros((1, 32, 32, 3), "float32")]
    export_model(half, tmp_path / "model", images=images)
    x = np.random.RandomState(0).normal(size=(2, 32, 32, 3)).astype("float32")
    found = FORMATS["savedmodel"].open(tmp_path / "model")(x)
    np.testing.assert_allclose(found, np.asarray(model.predict_on_batch(x)), atol=1e-4)


def test_command(capsys, run_folder, pictures, tmp_path):
    output = tmp_path / "served"
    arguments = ["export", run_folder, "--preprocess", "--calibrate", pictures, "-o", output]
    assert cli.main([str(argument) for argument in arguments]) == 0
    out = capsys.readouterr().out
    assert f"Written: {output}" in out
    assert "on 12 photographs: largest difference" in out and "best class on 100.0%" in out
    photograph = np.asarray(Image.open(sorted(pictures.glob("*.png"))[0]))[None]
    layer = keras.layers.TFSMLayer(output, call_endpoint="serving_default")
    assert layer(photograph)["output"].numpy().argmax() == 0


def test_a_broken_image_to_calibrate_with_is_named(capsys, run_folder, pictures, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(sorted(pictures.glob("*.jpg"))[0].read_bytes()[:300])
    arguments = ["export", run_folder, "--calibrate", tmp_path, "-o", tmp_path / "model"]
    assert cli.main([str(argument) for argument in arguments]) == 2
    assert f"Unreadable image {tmp_path / 'cut.jpg'}: the JPEG" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


WRONG = [
    ({"format": "onx"}, 'Unknown format "onx". Did you mean "onnx"?'),
    ({"precision": "int4"}, 'Unknown precision "int4". Did you mean "int8"?'),
    ({"precision": "int8"}, "not in int8, which onnx, openvino, litert can be"),
    ({"path": "model.onnx"}, 'The format "savedmodel" needs the name of a folder'),
    ({"path": "."}, '"." exists already'),
    ({"path": "no/model"}, "There is no folder"),
    ({"format": "onnx"}, r"(needs a name that ends in .onnx|\.\[export\])"),
    ({"format": "litert", "precision": "int8"}, r"(--calibrate FOLDER|\.\[export\])"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda value: str(value)[:60])
def test_wrong_arguments(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export_model(None, **({"path": "model"} | arguments))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(capsys, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name)
    )
    arguments = ["export", "ResNet20", "--format", "openvino", "-o", str(tmp_path / "a.xml")]
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert "needs openvino, which is not installed: pip install -e '.[export]'" in err


def test_nothing_is_left_of_a_failure(classifier, tmp_path, monkeypatch):
    def fail(model, path, precision, images):
        path.write_text("half")
        raise RuntimeError("no space")

    row = FORMATS["savedmodel"]
    monkeypatch.setitem(FORMATS, "savedmodel", dataclasses.replace(row, write=fail))
    with pytest.raises(RuntimeError, match="no space"):
        export_model(classifier.model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_metadata_says_what_the_extra_needs():
    """Every package that a format names is in the extra."""
    import configparser
    import pathlib

    config = configparser.ConfigParser()
    config.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
    extra = config["options.extras_require"]["export"].replace("-", "_")
    named = {name for row in FORMATS.values() for names in row.packages.values() for name in names}
    assert named and all(f"\n{name}>=" in extra for name in named), json.dumps(sorted(named))
