"""Data sets and input pipelines: ``datasets`` (the table of sources), ``pipeline``, ``cache``,
``augment``, ``policies``, ``policy_search``, ``mixing``, ``profile``, ``check``, ``pack``.

Nothing here knows the networks. Naming, checking and splitting files and arrays needs NumPy alone;
TensorFlow (for tf.data) is imported where images are read, decoded or changed.
"""
