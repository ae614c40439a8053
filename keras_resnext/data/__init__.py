"""Data sets and input pipelines: ``datasets`` (the table), ``pipeline``, ``augment``.

Nothing here knows the networks, and TensorFlow (for tf.data) is imported by ``pipeline`` and
``augment`` only: naming, checking and splitting a data set needs NumPy alone.
"""
