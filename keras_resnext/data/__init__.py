"""Data sets and input pipelines.

`datasets` has the table of `sources`; `pipeline` makes batches, from `order`, `cache`, `decode`,
`augment` and `mixing`. Nothing here knows the networks. Naming, checking and splitting files and
arrays needs NumPy alone; TensorFlow (for tf.data) is imported where images are read or changed.
"""
