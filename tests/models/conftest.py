"""Large networks without the time that their weights take."""

import keras
import pytest


@pytest.fixture
def kernels_of_zeros(monkeypatch):
    """What is counted needs no random numbers, which take most of the time of a large network."""

    def zeros(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
