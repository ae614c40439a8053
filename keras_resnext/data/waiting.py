"""Measuring how long training waits for batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Timed:
    """Batches, and a variable with the seconds spent waiting for them."""

    batches: tf.data.Dataset
    waited: tf.Variable

    def seconds(self) -> float:
        """Return the seconds waited since the last call."""
        seconds = float(self.waited)
        self.waited.assign_sub(seconds)
        return seconds


def timed(batches: tf.data.Dataset) -> Timed:
    """Measure how long each batch is waited for; the batches must end with a prefetch."""
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
    """Map in the consumer's thread; the pool of `Dataset.map` would read the clock too late."""
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
