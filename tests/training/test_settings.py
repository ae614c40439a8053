import pytest

from keras_resnext.data.datasets import load_dataset
from keras_resnext.training.settings import TrainSettings


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1),
        ("weight_decay", -1e-4),
        ("warmup", 1.0),
        ("label_smoothing", 1),
        ("label_smoothing", "0.1"),
        ("seed", -1),
    ],
)
def test_wrong_values_are_named(field, value):
    with pytest.raises(ValueError, match=f"`{field}`. Expected .* Received: {field}="):
        TrainSettings(**{field: value})


def test_unknown_precision_names_the_nearest():
    with pytest.raises(ValueError, match='"mixed_bfloat". Did you mean "mixed_bfloat16"'):
        TrainSettings(precision="mixed_bfloat")


def test_the_data_set_decides_what_is_left_open():
    digits = load_dataset("digits")
    settings = TrainSettings().resolved(digits)
    assert (settings.epochs, settings.batch_size) == (digits.epochs, digits.batch_size)
    assert settings.augmentation == "shift"
    given = TrainSettings(epochs=3, batch_size=64, learning_rate=0.5, augmentation="none")
    assert given.resolved(digits) == given


@pytest.mark.parametrize("batch_size, rate", [(8, 0.1), (256, 0.1), (10_000, 1438 / 2560)])
def test_learning_rate_grows_with_batches_above_256(batch_size, rate):
    settings = TrainSettings(batch_size=batch_size).resolved(load_dataset("digits"))
    assert settings.learning_rate == pytest.approx(rate)
    assert settings.batch_size == min(batch_size, 1438)
