"""The list of mutations is true of today's source; `python tests/mutate.py` runs it."""

import importlib
import pkgutil

import mutations
import pytest
from mutate import check_applies

PARTS = [m.name for m in pkgutil.iter_modules(mutations.__path__) if not m.name.startswith("_")]


@pytest.mark.parametrize("part", PARTS)
def test_every_mutation_applies(part):
    for row in importlib.import_module(f"mutations.{part}").MUTATIONS:
        check_applies(row)
        assert row.new != row.old
