"""Prepares tensorflow-datasets directories from original files, without TensorFlow."""
