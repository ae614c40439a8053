"""`weights=` of the applications, and from_timm: what they take, and what they say."""

import contextlib
import re

import keras
import numpy as np
import pytest
import safetensors.numpy
from eager import predict
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1
from keras.src.legacy.saving import legacy_h5_format
from small import SMALL

import keras_resnext
from keras_resnext import create_model, from_timm
from keras_resnext.models import inception_tables, variants
from keras_resnext.models.inception_config import Module
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import load_tensors, save_safetensors, to_timm
from keras_resnext.weights.timm_names import timm_name


def _randomized(model):
    random = np.random.RandomState(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            positive = weight.path.endswith(("gamma", "variance"))
            weight.assign(random.uniform(0.2, 0.8, weight.shape) - (0 if positive else 0.5))
    return model


def _images(size=64):
    return np.random.RandomState(0).normal(size=(2, size, size, 3)).astype("float32")


@contextlib.contextmanager
def _unchanged(model):
    before = [weight.numpy() for weight in model.weights]
    yield
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


@pytest.fixture(scope="module")
def tensors():
    model = create_model("ResNet18", classes=5, **SMALL)
    return to_timm(_randomized(model), timm_config("resnet18"))


# ------------------------------------------------------------------- files of keras.applications


def _legacy(model, path):
    """As keras.applications publishes its weights."""
    import h5py

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


WRITERS = {
    "kernels.h5": _legacy,
    "whole.h5": lambda model, path: model.save(path),
    "keras3.weights.h5": lambda model, path: model.save_weights(path),
}


def _theirs(name, size, **contract):
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=7, **contract
    )


@pytest.fixture(scope="module")
def small_resnet():
    """A network by the functions of keras.applications, as small as ours with `SMALL`."""

    def stages(x):
        for number, filters in enumerate(SMALL["filters"]):
            name = f"conv{number + 2}"
            x = stack_residual_blocks_v1(x, filters, 1, stride1=min(number + 1, 2), name=name)
        return x

    shape = {"input_shape": (64, 64, 3), "classes": 7}
    return _randomized(ResNet(stages, False, True, weights=None, name="resnet50", **shape))


@pytest.mark.parametrize("file", WRITERS)
def test_keras_applications_files_in_each_layout(file, small_resnet, tmp_path):
    WRITERS[file](small_resnet, tmp_path / file)
    ours = keras_resnext.ResNet50(
        weights=tmp_path / file, classes=7, input_shape=(64, 64, 3), **SMALL
    )
    expected = predict(small_resnet, _images())
    np.testing.assert_allclose(predict(ours, _images()), expected, atol=1e-5)
    assert expected.std() > 1e-3


@pytest.mark.parametrize(
    "name, size",
    [
        pytest.param("ResNet50V2", 64, marks=pytest.mark.slow),
        pytest.param("InceptionV3", 75, marks=pytest.mark.slow),
        pytest.param("ResNet101", 64, marks=pytest.mark.slow),
        pytest.param("InceptionResNetV2", 75, marks=pytest.mark.slow),
    ],
)
def test_keras_applications_networks(name, size, tmp_path):
    theirs = _randomized(_theirs(name, size))
    path = tmp_path / "kernels.h5"
    _legacy(theirs, path)
    ours = create_model(name, weights=path, classes=7, input_shape=(size, size, 3))
    expected = predict(theirs, _images(size))
    np.testing.assert_allclose(predict(ours, _images(size)), expected, atol=1e-5)


def test_a_file_without_top_and_the_wrong_network_of_keras_applications(small_resnet, tmp_path):
    path = tmp_path / "kernels.h5"
    _legacy(small_resnet, path)
    with pytest.raises(ValueError, match="kernels.h5.*do not fit ResNet101.*missing"):
        keras_resnext.ResNet101(weights=path, classes=7, **(SMALL | {"blocks": (1, 1, 2, 1)}))
    with pytest.raises(ValueError, match="misshapen"):
        keras_resnext.ResNet50(weights=path, classes=8, **SMALL)
    _legacy(keras.Model(small_resnet.input, small_resnet.layers[-2].output), path)
    create_model("ResNet50", weights=path, include_top=False, **SMALL)
    with pytest.raises(ValueError, match="1 missing.*\n.*predictions"):
        create_model("ResNet50", weights=path, **SMALL)


# ---------------------------------------------------------------------------- timm's tensors


def _thin(config):
    """The same network of two filters a convolution."""
    stages = [[Module(m.kind, (2,) * len(m.filters)) for m in stage] for stage in config.stages]
    return config.replace(stem_filters=(2,) * len(config.stem_filters), stages=stages)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"dropout": 0.2, "l2": 1e-4}, {"norm_scale": True}], ids=str)
def test_timms_inception_fits_whatever_else_is_changed(fields, tmp_path):
    keras.utils.set_random_seed(0)
    config = _thin(inception_tables.V3)
    contract = {"classes": 3, "input_shape": (96, 96, 3)}
    timms = config.replace(norm_scale=True, pool_padding="counted", norm_momentum=0.0)
    theirs = _randomized(create_model(timms, **contract))
    theirs(_images(96), training=True)  # or fifty layers would leave nothing of the images
    save_safetensors(theirs, timms, tmp_path / "model.safetensors")
    ours = create_model(config, weights=tmp_path / "model.safetensors", **fields, **contract)
    expected = predict(theirs, _images(96))
    np.testing.assert_allclose(predict(ours, _images(96)), expected, atol=1e-5)
    assert expected.std(0).max() > 1e-3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cardinalty": 3}, "cardinality"),
        ({"pooling": "mean"}, 'pooling "mean"'),
        ({"input_shape": (8, 8, 3)}, "at least"),
        ({"classes": -1}, "classes=-1"),
        ({"classifier_activation": "softmaxx"}, "softmaxx"),
    ],
    ids=str,
)
def test_nothing_is_downloaded_for_wrong_arguments(wrong, says, monkeypatch):
    def published(source):
        raise AssertionError("downloaded before the arguments were checked")

    monkeypatch.setattr("keras_resnext.applications.published", published)
    with pytest.raises(ValueError, match=says):
        from_timm("resnext50_32x4d.a1_in1k", **wrong)


def test_strict_is_advised_where_it_can_be_asked_for(tensors, tmp_path):
    path = tmp_path / "mine.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match="strict=False loads what fits"):
        from_timm("resnet18", path, classes=3, **SMALL)
    with pytest.raises(ValueError, match="`classes`.*0"):
        from_timm("resnet18", path, classes=0)
    for build in (
        lambda: create_model("ResNet18", weights=path, classes=3, **SMALL),
        lambda: from_timm("resnet18", {"other": np.zeros(3)}, strict=False, **SMALL),
    ):
        with pytest.raises(ValueError, match="do not fit") as raised:
            build()
        assert "strict=False" not in str(raised.value)


def test_a_fine_tuned_file_brings_its_classes(tensors, tmp_path):
    path = tmp_path / "mine.safetensors"
    safetensors.numpy.save_file(tensors, path)
    model = from_timm("resnet18", path, **SMALL)
    assert model.output_shape == (None, 5)
    by_name = keras_resnext.ResNet18(weights=str(path), classes=5, **SMALL)
    for one, other in zip(model.weights, by_name.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_contract_of_the_applications(tensors):
    contract = {"include_top": False, "pooling": "max", "input_shape": (96, 64, 3)}
    model = from_timm("resnet18", tensors, **contract, **SMALL)
    assert model.output_shape == (None, 20) and model.input_shape == (None, 96, 64, 3)
    logits = from_timm("resnet18.a1_in1k", tensors, classifier_activation=None, **SMALL)
    assert logits.layers[-1].activation is keras.activations.linear
    assert logits.name == "resnet18"


def test_the_images_of_a_checkpoint_are_known_where_they_are_square(tensors):
    square = from_timm("resnet18.a1_in1k", tensors, input_shape=(64, 64, 3), **SMALL)
    assert keras_resnext.preprocessing(square).size == 64
    for shape in ((96, 64, 3), (None, 64, 3)):
        model = from_timm("resnet18.a1_in1k", tensors, input_shape=shape, **SMALL)
        with pytest.raises(ValueError, match="does not know how its images are prepared"):
            keras_resnext.preprocessing(model)


def test_a_file_without_a_classifier(tensors):
    headless = {name: values for name, values in tensors.items() if not name.startswith("fc.")}
    assert from_timm("resnet18", headless, include_top=False, **SMALL).output_shape[-1] == 20
    with pytest.raises(ValueError, match="2 missing"):
        from_timm("resnet18", headless, **SMALL)
    model = from_timm("resnet18", headless, classes=3, strict=False, **SMALL)
    assert model.output_shape == (None, 3)
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").get_weights()[0], tensors["conv1.weight"].transpose(2, 3, 1, 0)
    )


def test_other_classes_are_said_and_can_be_asked_for(tensors):
    with pytest.raises(ValueError, match=r"(?s)2 misshapen.*fc.weight"):
        from_timm("resnet18", tensors, classes=3, **SMALL)
    model = from_timm("resnet18", tensors, classes=3, strict=False, **SMALL)
    assert model.output_shape == (None, 3)


def test_what_does_not_fit_comes_in_a_table_and_changes_nothing(tensors):
    config = timm_config("resnet18")
    model = create_model("ResNet18", classes=5, **SMALL)
    wrong = dict(tensors, extra=np.zeros(3, "float32"))
    wrong["layer1.0.conv1.weight"] = np.zeros((8, 64, 1, 1), "float32")
    del wrong["bn1.bias"]
    with _unchanged(model), pytest.raises(ValueError) as raised:
        load_tensors(model, config, wrong)
    lines = str(raised.value).split("\n")
    assert "1 missing, 1 misshapen, 1 unexpected" in lines[0]
    assert any(re.match(r"  missing +bn1.bias +for stem_conv_norm/beta \(64,\)", x) for x in lines)
    assert any(re.match(r"  unexpected +extra +\(3,\)", line) for line in lines)


def test_the_wrong_network_is_one_error(tensors):
    with pytest.raises(ValueError, match=r"(?s)do not fit resnet50.*\.\.\. and \d+ more"):
        from_timm("resnet50", tensors, **SMALL)
    with pytest.raises(ValueError, match="Unknown timm network"):
        from_timm("resnet18x", tensors)


def test_a_depth_that_nobody_published_takes_its_blocks_from_the_tensors():
    config = timm_config("resnet26").replace(blocks=(1, 2, 1, 2), filters=SMALL["filters"])
    tensors = to_timm(create_model(config, classes=2), config)
    model = from_timm("resnet20", tensors, filters=SMALL["filters"])
    assert model.output_shape == (None, 2)
    assert "stage4_block2_out" in {layer.name for layer in model.layers}


def test_a_round_trip_through_a_file_changes_no_bit(tensors, tmp_path):
    config = timm_config("resnet18")
    model = from_timm("resnet18", tensors, **SMALL)
    save_safetensors(model, config, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]
    again = from_timm("resnet18", tmp_path / "out.safetensors", **SMALL)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seresnext26t_32x4d", "inception_v3"])
def test_timm_itself_loads_our_file_strictly(name, tmp_path):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from safetensors.torch import load_file

    config = timm_config(name)
    ours = create_model(config, input_shape=(160, 160, 3), classes=4, classifier_activation=None)
    _randomized(ours)
    save_safetensors(ours, config, tmp_path / "model.safetensors")
    theirs = timm.create_model(name, num_classes=4).eval()
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    with torch.inference_mode():
        expected = theirs(torch.tensor(_images(160).transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(predict(ours, _images(160)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "name, fields, lacks",
    [
        ("ResNet50V2", {}, 'a layer "stage1_block1_preact_norm"'),
        ("BLResNet50", {"blocks": (2, 1)}, 'shortcut="D3"'),
        ("ResNeXt35", {"form": "a", "cardinality": 2}, 'a layer "stage1_block1_path1_conv1"'),
        ("ResNeXt35", {"form": "b", "cardinality": 2}, 'a layer "stage1_block1_path1_conv1"'),
        ("ResNeXt35", {"block": "separable", "cardinality": 1}, 'block="separable"'),
        ("ResNeXt35", {"block": "multi_kernel"}, 'block="multi_kernel"'),
        ("ResNet50", {"attention": "sk_assembled"}, 'attention="sk_assembled"'),
    ],
)
def test_what_timm_has_no_network_with_is_said(name, fields, lacks):
    config = variants.get(name).config
    config = config.replace(**{"blocks": (1, 1), "filters": (16, 16), **fields})
    model = create_model(config, classes=2)
    with pytest.raises(ValueError, match=f"timm has no network with {lacks}"):
        to_timm(model, config)
    with pytest.raises(ValueError, match="timm has no network with"):
        load_tensors(model, config, {"conv1.weight": np.zeros(1)}, strict=False)


def test_every_layer_that_timm_lacks_is_a_value_error():
    for layer in ("stem_big", "stem_merge_norm", "stage1_big_block1_conv1", "features_norm"):
        with pytest.raises(ValueError, match=f'no network with a layer "{layer}"'):
            timm_name(f"{layer}/kernel", variants.get("ResNet50").config)


# ------------------------------------------------------------------------- published checkpoints


def test_a_tag_is_downloaded_and_loaded(tensors, tmp_path, monkeypatch):
    """From the cache: the download itself has its own tests."""
    full = dict(tensors) | {"fc.weight": np.zeros((1000, 20), "float32")}
    full["fc.bias"] = np.zeros(1000, "float32")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = tmp_path / "models" / "keras_resnext"
    folder.mkdir(parents=True)
    for tag in ("a1_in1k", "fb_ssl_yfcc100m_ft_in1k"):
        safetensors.numpy.save_file(full, folder / f"resnet18.{tag}.safetensors")
    for model in (
        keras_resnext.ResNet18(weights="imagenet", **SMALL),
        keras_resnext.ResNet18(weights="a1_in1k", **SMALL),
        from_timm("resnet18.a1_in1k", **SMALL),
    ):
        np.testing.assert_array_equal(model.get_weights()[1], full["bn1.weight"])
    with pytest.warns(UserWarning, match="CC-BY-NC-4.0: not for commercial use"):
        from_timm("resnet18.fb_ssl_yfcc100m_ft_in1k", **SMALL)
    with pytest.raises(ValueError, match="misshapen"):
        keras_resnext.ResNet18(weights="imagenet", classes=10, **SMALL)


@pytest.mark.parametrize(
    "weights, said",
    [
        ("nothing/here.keras", "a file that does not exist"),
        ("imagenett", "checkpoint of resnet50"),
        ("a9_in1k", 'checkpoint of resnet50 "a9_in1k". Did you mean'),
    ],
)
def test_wrong_weights_are_said_before_any_work(weights, said, monkeypatch):
    def no_work(*args):
        raise AssertionError("it was built")

    monkeypatch.setattr("keras_resnext.applications.build_features", no_work)
    with pytest.raises(ValueError, match=said):
        keras_resnext.ResNet50(weights=weights)
