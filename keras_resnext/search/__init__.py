"""Hyperparameter search: ``space`` (what), ``run`` (doing it), ``report`` (what came of it)."""
