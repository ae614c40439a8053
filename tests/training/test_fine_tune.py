import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_resnext import cli, create_model
from keras_resnext.convert import convert
from keras_resnext.models import variants
from keras_resnext.training.build import compile_recipe
from keras_resnext.training.fine_tune import fine_tuned_model, freeze
from keras_resnext.training.optimizers import StagewiseSGD, stage_of
from keras_resnext.training.recipe import Recipe
from keras_resnext.weights import keras_names
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import save_safetensors, to_timm

SMALL = {"blocks": (1, 1, 1), "filters": (16, 16, 16), "input_shape": (16, 16, 3)}
NARROW = {"filters": (16, 16, 16, 16), "stem_filters": 16}


def _values(model, top=False):
    """The weights by path, with or without those of the classifier."""
    return {w.path: w.numpy() for w in model.weights if top or "predictions" not in w.path}


def _assert_same_backbone(model, source):
    expected, found = _values(source), _values(model)
    assert set(found) == set(expected)
    for path, values in expected.items():
        np.testing.assert_array_equal(found[path], values, err_msg=path)


def _randomized(model):
    random = np.random.RandomState(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 0.6, weight.shape))
    return model


# ------------------------------------------------------------------ a new classifier on old weights


def test_weights_of_ours(tmp_path):
    source = _randomized(create_model("ResNeXt35", classes=10, **SMALL))
    source.save(tmp_path / "model.keras")
    model = fine_tuned_model("ResNeXt35", tmp_path / "model.keras", classes=3, **SMALL)
    assert model.output_shape == (None, 3)
    _assert_same_backbone(model, source)
    with pytest.raises(ValueError, match="those of another network than ResNet20"):
        fine_tuned_model("ResNet20", tmp_path / "model.keras", classes=3)
    create_model("ResNeXt35", **{**SMALL, "blocks": (1, 2, 1)}).save(tmp_path / "deep.keras")
    with pytest.raises(ValueError, match='than ResNeXt35: it has no "stage2_block2'):
        fine_tuned_model("ResNeXt35", tmp_path / "deep.keras", classes=3, **SMALL)


def test_weights_of_timm(tmp_path):
    source = _randomized(create_model("SEResNet18", classes=6, **NARROW))
    path = tmp_path / "model.safetensors"
    narrow = timm_config("seresnet18").replace(**NARROW)
    safetensors.numpy.save_file(to_timm(source, narrow), path)
    contract = {"input_shape": (64, 64, 3), **NARROW}
    model = fine_tuned_model("SEResNet18", path, classes=3, **contract)
    _assert_same_backbone(model, source)
    with pytest.raises(ValueError, match="do not fit ResNet34"):
        fine_tuned_model("ResNet34", path, classes=3)


# One block a stage, narrow, with every layer that keras.applications' ResNet50 names.
THIN = {"blocks": (1, 1, 1, 1), "filters": (4, 4, 8, 8), "stem_filters": 4}


def _applications_file(path, classes=6):
    """A narrow ResNet50 in the layout that keras.applications publishes, and our network of it."""
    model = create_model(
        keras_names.keras_config(variants.get("ResNet50").config),
        classes=classes,
        input_shape=(32, 32, 3),
        **THIN,
    )
    _randomized(model)
    layers = [layer for layer in model.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [keras_names.keras_layer(layer.name) for layer in layers]
        for layer in layers:
            group = file.create_group(keras_names.keras_layer(layer.name))
            group.attrs["weight_names"] = [weight.name for weight in layer.weights]
            for weight in layer.weights:
                group[weight.name] = weight.numpy()
    return model


def _features(model):
    x = np.random.RandomState(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    return keras.Model(model.inputs, model.get_layer("avg_pool").output).predict(x, verbose=0)


def test_weights_of_keras_applications(tmp_path):
    """The form that they have there goes with them: biases, the place of the stride, epsilon."""
    source = _applications_file(tmp_path / "kernels.h5")
    contract = {"input_shape": (32, 32, 3), **THIN}
    model = fine_tuned_model("ResNet50", tmp_path / "kernels.h5", classes=3, **contract)
    assert model.output_shape == (None, 3)
    _assert_same_backbone(model, source)
    np.testing.assert_allclose(_features(model), _features(source), rtol=1e-5)


@pytest.mark.slow
def test_weights_of_timms_inception(tmp_path):
    timms = timm_config("inception_v3").replace(norm_momentum=0.0)
    source = create_model(timms, classes=6, input_shape=(96, 96, 3))
    source(np.random.RandomState(1).normal(size=(4, 96, 96, 3)), training=True)
    save_safetensors(source, timms, tmp_path / "model.safetensors")
    contract = {"input_shape": (96, 96, 3), "dropout": 0.2}
    model = fine_tuned_model("InceptionV3", tmp_path / "model.safetensors", classes=3, **contract)
    _assert_same_backbone(model, source)
    np.testing.assert_allclose(_features(model), _features(source), rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_there():
    with pytest.raises(ValueError, match="a file that does not exist"):
        fine_tuned_model("ResNeXt35", "no/model.keras", classes=3)
    with pytest.raises(ValueError, match="No checkpoint"):
        fine_tuned_model("ResNeXt35", "imagenet", classes=3)


# ----------------------------------------------------------------------------------- what is frozen


@pytest.mark.parametrize(
    "policy, through",
    [
        ("float32", 0),
        ("float32", 2),
        ("mixed_float16", 2),
        ("mixed_bfloat16", 2),
    ],
)
def test_what_is_frozen_does_not_change_by_a_bit(policy, through):
    keras.config.set_dtype_policy(policy)
    model = freeze(create_model("ResNeXt35", classes=2, **SMALL), through)
    before = _values(model, top=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1)
    model.compile(optimizer, "sparse_categorical_crossentropy", auto_scale_loss=False)
    random = np.random.RandomState(0)
    x, y = random.normal(3.0, 2.0, (16, 16, 16, 3)).astype("float32"), np.arange(16) % 2
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for path, values in _values(model, top=True).items():
        stage = stage_of(path)
        if stage is not None and stage <= through:
            np.testing.assert_array_equal(values, before[path], err_msg=path)
        else:
            assert not np.array_equal(values, before[path]), path


def test_freezing_nothing_and_what_is_no_stage():
    model = freeze(create_model("ResNeXt35", **SMALL), None)
    assert all(layer.trainable for layer in model.layers)
    with pytest.raises(ValueError, match="`through`. Expected an integer from 0 to 4, or None"):
        freeze(model, 5)


# ------------------------------------------------------------------------------- what learns slowly


@pytest.mark.only_tensorflow
def test_the_next_recipe_undoes_what_the_last_one_froze_and_penalized():
    """First the classifier, then all: of one model, in one process."""
    model = create_model("ResNeXt35", blocks=(1, 1, 1), classes=3)
    model.get_layer("stem_conv").trainable = False
    trainable = len(model.trainable_variables)
    compile_recipe(model, Recipe(freeze=3, weight_decay=0.2), steps=10)
    assert (len(model.trainable_variables), len(model.losses)) == (2, 1)
    compile_recipe(model, Recipe(), steps=10)
    assert (len(model.trainable_variables), len(model.losses)) == (trainable, 0)
    penalized = create_model("ResNeXt35", blocks=(1, 1, 1), l2=0.5)
    before = float(sum(penalized.losses))
    compile_recipe(penalized, Recipe(weight_decay=0.2), steps=10)
    assert float(sum(penalized.losses)) == pytest.approx(before / 5)
    compile_recipe(penalized, Recipe(), steps=10)
    assert float(sum(penalized.losses)) == pytest.approx(before)


def test_stages_learn_at_their_rates():
    """One step of plain SGD from the same start, to compare with; decay is a part of the step."""
    steps = {}
    x = np.random.RandomState(0).normal(size=(4, 16, 16, 3)).astype("float32")
    for decay in (1.0, 0.5):
        keras.utils.set_random_seed(1)
        model = create_model("ResNeXt35", classes=2, **SMALL)
        before = _values(model, top=True)
        optimizer = StagewiseSGD(0.1, stage_decay=decay, weight_decay=0.3)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        model.fit(x, np.arange(4) % 2, batch_size=4, verbose=0)
        after = _values(model, top=True)
        steps[decay] = {path: after[path] - before[path] for path in before}
    factors = {None: 1, 4: 0.5, 3: 0.25, 2: 0.125, 1: 0.0625, 0: 0.03125}
    trainable = [w.path for w in model.trainable_weights]
    assert {stage_of(path) for path in trainable} == {None, 0, 1, 2, 3}
    for path in trainable:
        expected = steps[1.0][path] * factors[stage_of(path)]
        np.testing.assert_allclose(steps[0.5][path], expected, rtol=2e-3, atol=2e-6, err_msg=path)


def test_the_optimizer_survives_a_file(tmp_path):
    model = create_model("ResNeXt35", classes=2, **SMALL)
    model.compile(StagewiseSGD(0.1, stage_decay=0.5), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").optimizer.stage_decay == 0.5
    for wrong in (0, 1.5, "a"):
        with pytest.raises(ValueError, match="`stage_decay`. Expected a number of at most 1"):
            StagewiseSGD(stage_decay=wrong)


# ------------------------------------------------------------------------------- the command line


@pytest.mark.only_tensorflow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_command_line_fine_tunes(toy, tmp_path, precision, capsys):
    source = create_model("ResNeXt35", classes=7, blocks=(1, 1, 1))
    old, run = tmp_path / "old.keras", tmp_path / "run"
    source.save(old)
    arguments = f"train --weights {old} --set blocks=(1,1,1) --epochs 1 --freeze 1 --data {toy}"
    arguments += f" --stage-decay 0.5 --output {run} --precision {precision} --batch-size 16"
    assert cli.main(arguments.split()) == 0
    tuned = keras.saving.load_model(run / "model.keras")
    assert tuned.output_shape == (None, 2)
    before, after = _values(source), _values(tuned)
    same = {path for path in before if np.array_equal(before[path], after[path])}
    assert same == {path for path in before if stage_of(path) <= 1}
    assert cli.main(["train", "--weights", "no/such.keras", "--output", str(tmp_path / "b")]) == 2
    assert "a file that does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_convert_both_ways(tmp_path, capsys):
    config = timm_config("skresnet18")
    source = _randomized(create_model(config, classes=4))
    safetensors.numpy.save_file(to_timm(source, config), tmp_path / "a.safetensors")
    a, b, c = (str(tmp_path / name) for name in ("a.safetensors", "b.keras", "c.safetensors"))
    assert cli.main(["convert", a, b, "--model", "skresnet18"]) == 0
    assert "skresnet18, 11." in capsys.readouterr().out
    assert cli.main(["convert", b, c, "--model", "SKResNet18"]) == 0
    back, there = safetensors.numpy.load_file(c), safetensors.numpy.load_file(a)
    assert set(back) == set(there)
    for name, values in there.items():
        np.testing.assert_array_equal(back[name], values)
    for wrong, said in (
        ([a, str(tmp_path / "d.onnx"), "--model", "skresnet18"], "target"),
        ([a, b, "--model", "skresnet19"], "Unknown model"),
        ([a, b, "--model", "resnet18"], "do not fit resnet18"),
        ([b, c, "--model", "resnet18"], "holds another network than resnet18"),
        ([str(tmp_path / "none.pth"), b, "--model", "resnet18"], "no file of weights"),
    ):
        assert cli.main(["convert", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_convert_a_file_of_keras_applications(tmp_path):
    """By what is in it, with its own number of classes, under either name of the network."""
    source = _applications_file(tmp_path / "kernels.h5")
    for name, target in (("ResNet50", "a.keras"), ("timm/resnet50.a1_in1k", "b.weights.h5")):
        model = convert(tmp_path / "kernels.h5", tmp_path / target, name, **THIN)
        assert model.output_shape == (None, 6) and (tmp_path / target).exists()
        for one, other in zip(model.weights, source.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    with pytest.raises(ValueError, match="form of keras.applications, which no network of timm"):
        convert(tmp_path / "kernels.h5", tmp_path / "c.safetensors", "ResNet50", **THIN)
    with pytest.raises(ValueError, match="misshapen"):
        convert(tmp_path / "kernels.h5", tmp_path / "c.keras", "ResNet50", classes=5, **THIN)
    assert not list(tmp_path.glob("c.*"))


def test_tensors_bring_their_classes_to_a_row_of_the_table(tmp_path):
    fields = {"blocks": (1, 1, 1), "filters": (4, 4, 4), "stem_filters": 4}
    config = variants.get("ResNet20").config.replace(**fields)
    save_safetensors(create_model(config, classes=7), config, tmp_path / "a.safetensors")
    model = convert(tmp_path / "a.safetensors", tmp_path / "a.keras", "ResNet20", **fields)
    assert model.output_shape == (None, 7)


def test_convert_refuses_weights_of_other_shapes(tmp_path):
    fields = {"blocks": (1, 1, 1), "cardinality": 4, "width_per_group": 16}
    create_model("ResNeXt35", classes=4, **fields).save(tmp_path / "a.keras")
    target = tmp_path / "a.safetensors"
    for other in ({"cardinality": 8, "width_per_group": 8}, {"width_per_group": 8}):
        with pytest.raises(ValueError, match="holds another network than ResNeXt35"):
            convert(tmp_path / "a.keras", target, "ResNeXt35", **{**fields, **other})
    with pytest.raises(ValueError, match="holds another network than ResNeXt35.*`classes`"):
        convert(tmp_path / "a.keras", target, "ResNeXt35", classes=5, **fields)
    assert not target.exists()
    convert(tmp_path / "a.keras", target, "ResNeXt35", classes=4, **fields)
    assert target.exists()
