"""How long whoever takes batches waits for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Timed:
    """Batches, and the time that was spent waiting for them.

    Args:
        batches: tf.data.Dataset to take instead of the one that was given.
        waited: Variable, seconds so far.
    """

    batches: tf.data.Dataset
    waited: tf.Variable

    def seconds(self) -> float:
        """Return the seconds waited since the last call."""
        seconds = float(self.waited)
        self.waited.assign_sub(seconds)
        return seconds


def timed(batches: tf.data.Dataset) -> Timed:
    """Measure, within tf.data, how long each batch is waited for.

    The clock is read before and after the batch is taken, by whoever takes it, in the middle of a
    compiled training step or not.

    Args:
        batches: tf.data.Dataset that ends with a prefetch.

    Returns:
        `Timed`.
    """
    with tf.device("CPU:0"):
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    clock = _map_at_once(tf.data.Dataset.range(1).repeat(), lambda _: tf.timestamp())

    def took(begin: tf.Tensor, batch: tuple) -> tuple:
        with tf.control_dependencies([waited.assign_add(tf.timestamp() - begin)]):
            return tf.nest.map_structure(tf.identity, batch)

    # A zip asks its parts in turn: the clock, then the batch.
    result = _map_at_once(tf.data.Dataset.zip((clock, batches)), took)
    options = tf.data.Options()
    # A prefetch of TensorFlow's own at the end would measure itself.
    options.experimental_optimization.inject_prefetch = False
    return Timed(result.with_options(options), waited)


def _map_at_once(dataset: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    """Map in the thread of whoever asks.

    `Dataset.map` runs its function in a pool that a slow pipeline keeps busy: there the clock would
    be read when the wait is over.
    """
    spec = dataset.element_spec
    arguments = spec if isinstance(spec, tuple) else (spec,)

    @tf.function(input_signature=tf.nest.flatten(arguments))
    def mapped(*tensors: tf.Tensor) -> tuple:
        return function(*tf.nest.pack_sequence_as(arguments, tensors))

    concrete = mapped.get_concrete_function()
    structure = tf.nest.map_structure(
        lambda out: tf.TensorSpec(out.shape, out.dtype), concrete.structured_outputs
    )
    variant = tf.raw_ops.MapDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        other_arguments=concrete.captured_inputs,
        f=concrete,
        output_types=[out.dtype for out in tf.nest.flatten(structure)],
        output_shapes=[out.shape for out in tf.nest.flatten(structure)],
        use_inter_op_parallelism=False,
        preserve_cardinality=True,
    )
    return tf.data.experimental.from_variant(variant, structure)
