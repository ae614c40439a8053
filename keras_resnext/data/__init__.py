"""Data sets and input pipelines. TensorFlow is imported only where images are read or changed."""
