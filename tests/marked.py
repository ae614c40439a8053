"""Rows of a table as parameters of a test."""

import pytest


def rows(table, slow):
    """Every row of the table; those of `slow`, which take long, among the slow tests."""
    assert set(slow) <= set(table)
    return [pytest.param(row, marks=pytest.mark.slow if row in slow else ()) for row in table]
