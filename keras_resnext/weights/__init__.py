"""Weights that others trained: how they name them, and how they lay them out."""
