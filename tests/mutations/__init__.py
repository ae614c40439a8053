"""Broken lines that a test must notice, a module per part of the package.

`python tests/mutate.py` breaks each of them in turn in a copy of the tree and runs its tests.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One broken line.

    Args:
        file: str, path of the file from the root of the project.
        old: str, text that stands in it once.
        new: str, text that breaks it.
        tests: str, arguments of pytest: the tests of which one must fail.
    """

    file: str
    old: str
    new: str
    tests: str
