"""Evaluation of trained networks: their predictions, explanations and speed."""
