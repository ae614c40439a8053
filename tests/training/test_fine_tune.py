import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_resnext import cli, create_model
from keras_resnext.training.fine_tune import StagewiseSGD, fine_tuned_model, freeze, stage_of
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import to_timm

SMALL = {"blocks": (1, 1, 1), "input_shape": (16, 16, 3)}


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


def test_weights_of_timm(tmp_path):
    source = _randomized(create_model("SEResNet18", classes=6))
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(to_timm(source, timm_config("seresnet18")), path)
    model = fine_tuned_model("SEResNet18", path, classes=3, input_shape=(64, 64, 3))
    _assert_same_backbone(model, source)
    with pytest.raises(ValueError, match="do not fit ResNet34"):
        fine_tuned_model("ResNet34", path, classes=3)


def test_weights_that_are_not_there():
    with pytest.raises(ValueError, match="a file that is not there"):
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
        pytest.param("mixed_float16", 0, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", 0, marks=pytest.mark.slow),
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
    with pytest.raises(ValueError, match="through=5"):
        freeze(model, 5)


# ------------------------------------------------------------------------------- what learns slowly


@pytest.mark.only_tensorflow
def test_stages_learn_at_their_rates():
    """One step of plain SGD from the same start, to compare with."""
    steps = {}
    x = np.random.RandomState(0).normal(size=(4, 16, 16, 3)).astype("float32")
    for decay in (1.0, 0.5):
        keras.utils.set_random_seed(1)
        model = create_model("ResNeXt35", classes=2, **SMALL)
        before = _values(model, top=True)
        model.compile(StagewiseSGD(0.1, stage_decay=decay), "sparse_categorical_crossentropy")
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
        with pytest.raises(ValueError, match="0 < stage_decay <= 1"):
            StagewiseSGD(stage_decay=wrong)


# ------------------------------------------------------------------------------- the command line


@pytest.mark.slow
@pytest.mark.only_tensorflow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_command_line_fine_tunes(tmp_path, precision, capsys):
    source = create_model("ResNeXt35", classes=7, blocks=(1, 1, 1))
    old, run = tmp_path / "old.keras", tmp_path / "run"
    source.save(old)
    arguments = f"train --weights {old} --set blocks=(1,1,1) --epochs 1 --freeze 1"
    arguments += f" --stage-decay 0.5 --output {run} --precision {precision}"
    assert cli.main(arguments.split()) == 0
    tuned = keras.saving.load_model(run / "model.keras")
    assert tuned.output_shape == (None, 10)
    before, after = _values(source), _values(tuned)
    same = {path for path in before if np.array_equal(before[path], after[path])}
    assert same == {path for path in before if stage_of(path) <= 1}
    assert cli.main(["train", "--weights", "no/such.keras", "--output", str(tmp_path / "b")]) == 2
    assert "a file that is not there" in capsys.readouterr().err


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
