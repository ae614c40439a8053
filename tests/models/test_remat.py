"""Where a network is cut, and that the parts together are the network."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
from marked import rows
from networks import draw_configs
from tiny_inception import TINY_RESNET, TINY_V1

from keras_resnext import create_model
from keras_resnext.layers.rematerialized import Rematerialized
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.remat import BOUNDS, best_cuts, remat_model


def kept(sizes, passing, cuts):
    parts = [sum(sizes[a:b]) for a, b in itertools.pairwise([0, *cuts, len(sizes)])]
    return sum(passing[cut] for cut in cuts) + max(parts)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_cuts_keep_less(seed):
    random = np.random.RandomState(seed)
    sizes = random.randint(1, 100, 9).tolist()
    places = sorted(random.choice(range(1, 9), 6, replace=False).tolist())
    passing = {place: int(random.randint(1, 60)) for place in places}
    subsets = itertools.chain.from_iterable(
        itertools.combinations(places, count) for count in range(7)
    )
    least = min(kept(sizes, passing, cuts) for cuts in subsets)
    ours = kept(sizes, passing, best_cuts(sizes, passing))
    assert least <= ours <= least + sum(sizes) / BOUNDS


SMALL = ResNetConfig(blocks=(1, 1), filters=(8, 16), stem_filters=8, norm_momentum=0.7)
NETWORKS = {
    "residual": SMALL.replace(drop_path=0.3, attention="se"),
    "big_little": SMALL.replace(blocks=(2, 2, 2), filters=(8, 16, 32), big_little=(2, 2)),
    "auxiliary": TINY_V1,
}


def trained(name, remat, policy="float32", steps=3):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    model = create_model(NETWORKS[name], input_shape=(64, 64, 3), classes=4)
    keras.config.set_dtype_policy(before)
    fitted = remat_model(model) if remat else model
    fitted.compile(keras.optimizers.SGD(0.01, momentum=0.9), "categorical_crossentropy")
    fitted.optimizer.build(fitted.trainable_variables)  # or Keras traces the step twice
    random = np.random.RandomState(0)
    x, y = random.normal(size=(8, 64, 64, 3)), np.eye(4)[random.randint(0, 4, 8)]
    losses = [float(fitted.train_on_batch(x, y)) for _ in range(steps)]
    return model, fitted, losses


@pytest.mark.parametrize(
    "policy, steps, tolerance",
    [
        ("float64", 3, 1e-12),
        pytest.param("float32", 1, 1e-5, marks=pytest.mark.slow),
        pytest.param("mixed_float16", 3, 5e-2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", rows(NETWORKS, slow=["big_little", "auxiliary"]))
def test_it_trains_as_the_network_does(name, policy, steps, tolerance):
    """Up to rounding: where a tensor has several uses its gradients are added in another order.

    So small a network on so few images makes much of that in a few steps, but for float64.
    """
    model, fitted, losses = trained(name, True, policy, steps)
    expected, _, expected_losses = trained(name, False, policy, steps)
    assert type(fitted) is type(expected)
    assert type(fitted.optimizer) is type(expected.optimizer), "float16 needs its loss scaled"
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)
    for ours, other in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_allclose(ours, other, rtol=tolerance, atol=tolerance, err_msg=other.path)
    x = np.random.RandomState(1).normal(size=(2, 64, 64, 3))
    np.testing.assert_array_equal(fitted.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_cannot_be_cut_is_refused():
    anywhere = create_model(SMALL, input_shape=(None, None, 3), classes=4)
    with pytest.raises(ValueError, match="any size.*Expected `image_size`"):
        remat_model(anywhere)
    assert len(remat_model(anywhere, 64).layers) > 3
    inputs, twice = keras.Input((8,)), keras.layers.Dense(8, name="twice")
    with pytest.raises(ValueError, match='calls its layer "twice" more than once'):
        remat_model(keras.Model(inputs, twice(twice(inputs))))
    with pytest.raises(ValueError, match="must be a functional `keras.Model`"):
        remat_model(keras.Sequential([keras.layers.Dense(2)]))


PEAK = r"""
import re, sys
import keras, numpy as np
from keras_resnext import ResNet50
from keras_resnext.models.remat import remat_model
model = ResNet50(weights=None, input_shape=(160, 160, 3))
if sys.argv[1] == "remat":
    model = remat_model(model)
model.compile("sgd", "categorical_crossentropy", jit_compile=False)

def peak():  # getrusage would begin with what the process that has started this one held
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])

base = peak()
for _ in range(2):
    model.train_on_batch(np.ones((16, 160, 160, 3)), np.eye(1000)[:16])
print(peak() - base)
"""


@pytest.mark.slow
def test_it_takes_less_memory():
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", PEAK, kind])) for kind in ("remat", "")
    ]
    assert peaks[0] < 0.7 * peaks[1], peaks


def inner_layers(model):
    found = []
    for layer in model.layers:
        part = getattr(layer, "part", layer)
        found += part.layers if isinstance(part, keras.Model) else [layer]
    return [layer for layer in found if not isinstance(layer, keras.layers.InputLayer)]


@pytest.mark.parametrize("config", [*draw_configs(10, seed=3), TINY_RESNET, TINY_V1], ids=range(12))
def test_the_parts_of_every_network_are_the_network(config):
    model = create_model(config, input_shape=(80, 80, 3), classes=3)
    trained = remat_model(model)
    assert any(isinstance(layer, Rematerialized) for layer in trained.layers)
    ours = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert sorted(map(id, inner_layers(trained))) == sorted(map(id, ours))
    assert {id(v) for v in trained.variables} == {id(v) for v in model.variables}
    assert trained.output_shape == model.output_shape
