"""What every test shares: quiet TensorFlow, and one place that differentiates on any backend.

Keras is imported by the fixtures, not here: the process that hands out tests does not need it.
"""

import gc
import os

import keras_resnext  # noqa: F401  before TensorFlow, which then uses oneDNN

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest


def pytest_collection_finish():
    """What is imported stays: no collection of garbage need walk through TensorFlow again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip what is about TensorFlow's own kernels on the other backends, before any fixture."""
    import keras

    if item.get_closest_marker("only_tensorflow") and keras.backend.backend() != "tensorflow":
        pytest.skip("is about TensorFlow's own kernels")


@pytest.fixture(autouse=True)
def _default_policy():
    """A test that sets a policy or a data format must not leave it to the next."""
    import keras

    policy, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(layout)


@pytest.fixture(autouse=True)
def _memory(request):
    """A model is a cycle of few, large objects, for which Python does not look often enough."""
    yield
    if request.node.get_closest_marker("slow"):
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _functions():
    """TensorFlow takes the longer to forget a function the more of them there are."""
    yield
    gc.collect()


@pytest.fixture
def eagerly():
    """On TensorFlow: nothing is traced, which takes seconds, but for input pipelines."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def toy(tmp_path):
    """An .npz of two classes, dark and bright."""
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).integers(0, 80, (64, 32, 32, 3)).astype(np.uint8)
    images[labels == 1] += 150
    path = tmp_path / "toy.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:16], y_test=labels[:16])
    return path


def _tensorflow_gradients(function, arrays):
    import tensorflow as tf

    tensors = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return tape.gradient(value, tensors)


def _jax_gradients(function, arrays):
    import jax

    return jax.grad(function, argnums=tuple(range(len(arrays))))(*map(jax.numpy.array, arrays))


def _torch_gradients(function, arrays):
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    return torch.autograd.grad(function(*tensors), tensors)


@pytest.fixture(scope="session")
def gradients():
    """`gradients(function, arrays)`: of a scalar function of tensors, as NumPy arrays."""
    import keras

    backends = {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }
    differentiate = backends[keras.backend.backend()]

    def as_numpy(function, arrays):
        found = differentiate(function, arrays)
        return [np.asarray(keras.ops.convert_to_numpy(g), "float64") for g in found]

    return as_numpy


@pytest.fixture(scope="session")
def randomize():
    """`randomize(model)`: scales and statistics as training leaves them, nowhere 0 and 1."""
    draws = {
        "moving_variance": (np.random.RandomState.uniform, 0.5, 1.5),
        "gamma": (np.random.RandomState.uniform, 0.5, 1.0),
        "moving_mean": (np.random.RandomState.normal, 0, 0.1),
        "beta": (np.random.RandomState.normal, 0, 0.1),
        "bias": (np.random.RandomState.normal, 0, 0.1),
    }

    def randomize(model, seed=0):
        random = np.random.RandomState(seed)
        for variable in model.weights:
            draw, *numbers = draws.get(variable.path.rsplit("/")[-1], (None,))
            if draw:
                variable.assign(draw(random, *numbers, variable.shape))

    return randomize
