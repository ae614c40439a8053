"""Write the stubs, which tell editors and type checkers what the package's door opens.

    python tests/make_stubs.py

`applications.pyi` has a signature per row of the table, with the fields of its configuration; of
`__init__.pyi`, which the lazy loader reads too, only the names of these functions are written.
`test_types.py` fails while a stub is not what this makes.
"""

import ast
import dataclasses
import inspect
import pathlib
import re
import subprocess
import sys

from keras_resnext import applications
from keras_resnext.models import variants

PACKAGE = pathlib.Path(applications.__file__).parent
DOOR, APPLICATIONS = PACKAGE / "__init__.pyi", PACKAGE / "applications.pyi"
ROW = "from .applications import "
HEADER = '''"""Written by tests/make_stubs.py from the table of models and the real signatures."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

import keras
import numpy as np

from .layers import Preprocessing
from .models.config import NetworkConfig
'''
OURS = re.compile(r"keras_resnext\.([\w.]+)\.(\w+)")


def stubs():
    """Return the text of each stub by its path."""
    return {DOOR: _door(DOOR.read_text()), APPLICATIONS: _applications()}


def _door(text):
    """Return the door's stub, which is written by hand but for the rows of the table."""
    by_hand = [line for line in text.splitlines() if not line.startswith(ROW)]
    names = [*_public(PACKAGE / "applications.py"), *variants.VARIANTS]
    rows = [f"{ROW}{name} as {name}" for name in names]
    return _tidy("\n".join([*by_hand, *rows]), DOOR)


def _applications():
    families = {type(row.config) for row in variants.VARIANTS.values()}
    body = "\n".join(
        [
            *(_fields(family) for family in sorted(families, key=lambda family: family.__name__)),
            *_public(PACKAGE / "applications.py").values(),
            *(_function(row) for row in variants.VARIANTS.values()),
        ]
    )
    imports = {f"from .{module} import {name}" for module, name in OURS.findall(body)}
    head = _tidy("\n".join([HEADER, *sorted(imports)]), APPLICATIONS)
    return f"{head}\n# fmt: off\n\n{OURS.sub(lambda match: match[2], body)}\n"


def _fields(family):
    """Return a family's configuration as the keywords of its functions."""
    lines = [f"class {family.__name__}Fields(TypedDict, total=False):"]
    lines += [f"    {f.name}: {_written(f.type)}" for f in dataclasses.fields(family)]
    return "\n".join(lines)


def _function(row):
    signature = inspect.signature(getattr(applications, row.name))
    *parameters, _ = signature.parameters.values()
    written = [f"{p.name}: {_written(p.annotation)} = {p.default!r}" for p in parameters]
    written.append(f"**overrides: Unpack[{type(row.config).__name__}Fields]")
    return f"def {row.name}({', '.join(written)}) -> keras.Model: ..."


def _written(annotation):
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"keras\.src\.[\w.]+\.", "keras.", text.replace("collections.abc.", ""))


def _public(path):
    """Return the signature of each public function of a module, as it stands in its source."""
    signatures = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            node.body = [ast.Expr(ast.Constant(...))]
            signatures[node.name] = ast.unparse(node)
    return signatures


def _tidy(text, path):
    """Return the text sorted and formatted as Ruff has it."""
    for command in (("check", "--select", "I", "--fix", "--quiet"), ("format", "--quiet")):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text)
