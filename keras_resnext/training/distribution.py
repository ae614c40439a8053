"""One run on several devices."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import keras

from keras_resnext.checks import check, choice

STRATEGIES = ("auto", "none", "mirrored", "multi_worker")


@contextmanager
def distributed(strategy: str = "auto") -> Iterator[None]:
    """Build and train on several devices in this context.

    "mirrored" uses all devices of this machine, "multi_worker" those of several machines (JAX only,
    see examples/), "auto" all of this machine if there are several. Batch sizes are totals over all
    devices.
    """
    check("strategy", strategy, choice(STRATEGIES))
    with _SCOPES[keras.backend.backend()](strategy):
        yield


@contextmanager
def _tensorflow(strategy: str) -> Iterator[None]:
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "none" or (strategy == "auto" and len(gpus) < 2):
        yield
        return
    devices = gpus or tf.config.list_logical_devices("CPU")
    with tf.distribute.MirroredStrategy([device.name for device in devices]).scope():
        yield


@contextmanager
def _jax(strategy: str) -> Iterator[None]:
    import jax

    if strategy == "none" or (strategy == "auto" and jax.device_count() == 1):
        yield
        return
    before = keras.distribution.distribution()
    # Each worker brings its own rows of the batch: see `data.pipeline.Training`.
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextmanager
def _torch(strategy: str) -> Iterator[None]:
    if strategy in ("mirrored", "multi_worker"):
        raise ValueError(
            f'strategy="{strategy}" needs TensorFlow or JAX. Set KERAS_BACKEND to one of them.'
        )
    yield


ADDRESS = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
WORKERS = "KERAS_DISTRIBUTION_NUM_PROCESSES"
WORKER = "KERAS_DISTRIBUTION_PROCESS_ID"


def join(strategy: str) -> None:
    """Connect to the other workers of a "multi_worker" run, before anything is computed.

    They are given by the environment variables that `keras.distribution.initialize` reads.
    """
    if strategy != "multi_worker":
        return
    if keras.backend.backend() != "jax":
        raise ValueError(
            'strategy="multi_worker" needs JAX: on TensorFlow, Keras\'s `fit` fails across '
            "machines (keras-team/keras issue 20585). Set KERAS_BACKEND=jax."
        )
    missing = [name for name in (ADDRESS, WORKERS, WORKER) if name not in os.environ]
    if missing:
        raise ValueError(
            f'strategy="multi_worker" needs {", ".join(missing)} in the environment of each '
            "worker. See examples/cluster/."
        )
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize()


def worker() -> tuple[int, int]:
    """Return the number of this worker, from 0, and how many there are."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def devices_of_a_worker() -> int:
    """Return how many devices share the batches of this worker on JAX, within `distributed`."""
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return 1
    import jax

    return jax.local_device_count()


def supervise(command: Sequence[str], restarts: int, fine: Sequence[int]) -> int:
    """Run a worker's command, restart it when it fails, and return its last exit code.

    Exit codes in `fine` are not failures. On Ctrl-C wait for the worker to save; pass SIGTERM on.
    """
    ending = []
    for left in range(restarts, -1, -1):
        worker = subprocess.Popen(command)
        before = signal.signal(
            signal.SIGTERM, lambda *_, worker=worker: (ending.append(1), worker.terminate())
        )
        try:
            code = _wait(worker)
        finally:
            signal.signal(signal.SIGTERM, before)
        if code in fine or not left or ending:
            return code
        print(f"worker ended with {code}: restarted, {left - 1} times left", file=sys.stderr)


def _wait(process: subprocess.Popen) -> int:
    while True:
        with suppress(KeyboardInterrupt):
            return process.wait()


_SCOPES = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def synchronize(model: keras.Model) -> None:
    """Let batch norms use the batch of all devices under TensorFlow; on JAX they always do."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
