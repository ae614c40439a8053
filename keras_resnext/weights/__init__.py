"""Weights from others: their files, names and layouts."""
