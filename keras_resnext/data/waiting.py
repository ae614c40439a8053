"""How long the one who takes batches waits for them."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Timed:
    """Batches, and the time that was spent waiting for them.

    Args:
        batches: To be taken in place of those that were given.
        waited: Seconds so far, a variable.
    """

    batches: tf.data.Dataset
    waited: tf.Variable

    def seconds(self) -> float:
        """Give the seconds waited since the last call."""
        seconds = float(self.waited)
        self.waited.assign_sub(seconds)
        return seconds


def timed(batches: tf.data.Dataset) -> Timed:
    """Measure, within tf.data, how long each batch is waited for.

    The clock is read before and after the batch is taken, by whoever takes it, in the middle of a
    compiled training step or not.

    Args:
        batches: Prefetched.

    Returns:
        Timed.
    """
    with tf.device("CPU:0"):
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    clock = tf.data.Dataset.range(1).repeat().map(lambda _: tf.timestamp())

    def took(begin, batch):
        with tf.control_dependencies([waited.assign_add(tf.timestamp() - begin)]):
            return tf.nest.map_structure(tf.identity, batch)

    # A zip asks its parts in turn: the clock, then the batch.
    result = tf.data.Dataset.zip((clock, batches)).map(took, num_parallel_calls=None)
    options = tf.data.Options()
    # A prefetch of TensorFlow's own at the end would measure itself.
    options.experimental_optimization.inject_prefetch = False
    return Timed(result.with_options(options), waited)
