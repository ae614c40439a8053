"""The cost of a network by arithmetic, against published numbers and against built networks."""

import subprocess
import sys

import keras
import pytest
from networks import Record, draw_configs
from tiny_inception import TINY_RESNET, TINY_V1, TINY_V3

from keras_resnext.applications import create_model
from keras_resnext.models import variants
from keras_resnext.models.complexity import complexity
from keras_resnext.models.counting import count


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_published_numbers(name):
    """Parameters to the last one, multiply-adds to three decimals of 10**9."""
    row = variants.get(name)
    counted = count(row.config, row.input_size, row.classes)
    assert (counted.parameters, counted.trainable) == (row.total, row.trainable)
    assert round(counted.macs / 1e9, 3) == row.gmacs


def check(config, size):
    model = create_model(config, input_shape=(size, size, 3), classes=7)
    assert count(config, size, 7) == complexity(model), config
    keras.backend.clear_session()


@pytest.mark.parametrize("config", draw_configs(12, seed=1), ids=range(12))
def test_is_what_a_built_network_has(config):
    check(config, config.smallest_input + 9)


@pytest.mark.slow
def test_is_what_500_built_networks_have():
    for config in draw_configs(500):
        check(config, config.smallest_input + 3)


@pytest.mark.parametrize(
    "config, size",
    [(TINY_RESNET, 75), (TINY_V1.replace(auxiliary=True), 80)],
    ids=["residual", "auxiliary"],
)
def test_is_what_a_built_inception_network_has(config, size):
    check(config, size)


@pytest.mark.slow
def test_is_what_built_auxiliary_classifiers_have():
    check(TINY_V3.replace(auxiliary=True, pool_padding="counted"), 299)


@pytest.mark.parametrize("config", draw_configs(30, seed=2), ids=range(30))
def test_blocks_alike_are_counted_once_and_added_as_often_as_they_stand(config):
    one_by_one = Record(config, 33)
    counted = count(config, 33, 1)
    assert counted.trainable == one_by_one.trainable + config.outputs[-1] + 1
    assert counted.macs == one_by_one.macs + config.outputs[-1]


PROGRAM = """
import sys, time
from keras_resnext.models import variants
from keras_resnext.models.counting import count
for row in variants.VARIANTS.values():
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        count(row.config, row.input_size, row.classes)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2e-3, (row.name, seconds)
assert not {"keras", "tensorflow", "numpy"} & set(sys.modules)
"""


def test_takes_no_keras_and_less_than_two_milliseconds():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
