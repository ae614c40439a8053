"""The private names of other libraries that the package uses: each is there, and none is unlisted.

A name gives way as soon as its library has a public way. Until then it needs a row in `PRIVATE`,
whose test fails with the release of the library that drops the name.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import pathlib
from collections.abc import Callable

import keras
import pytest

import keras_resnext

ROOT = pathlib.Path(keras_resnext.__file__).parent
# Documented in spite of their underscore: `os._exit`, and methods of named tuples.
DOCUMENTED = {"_exit", "_replace"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A private name.

    Args:
        name: str, the attribute; with dots, what is imported.
        files: tuple of str, where the package uses it.
        owner: Function that returns an object which must have the attribute; None for an import.
    """

    name: str
    files: tuple[str, ...]
    owner: Callable[[], object] | None = None


def _model():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def _function():
    image = keras.Input((1,))
    return keras.Function(image, keras.ops.relu(image))


def _compiled():
    model = _model()
    model.compile("sgd", "mse")
    return model


def _adam():
    optimizer = keras.optimizers.Adam(use_ema=True)
    optimizer.build(_model().trainable_variables)
    return optimizer


def _tuner(name):
    import keras_tuner

    return getattr(keras_tuner.oracles, name)


def _hyperband():
    return _tuner("HyperbandOracle")(objective="loss")


PRIVATE = (
    # The layers within a model at any depth, and the graph of its calls.
    Row(
        "_flatten_layers",
        (
            "layers/scheduled_drop.py",
            "models/complexity.py",
            "training/distribution.py",
            "training/optimizers.py",
        ),
        lambda: keras.Layer,
    ),
    Row("_nodes_by_depth", ("models/features.py", "weights/fold.py"), _function),
    Row(
        "_keras_history",
        ("models/remat.py",),
        lambda: keras.Input((1,)),
    ),
    # The compiled loss without the regularization.
    Row("_compile_loss", ("models/auxiliary.py",), _compiled),
    # What an optimizer of one's own needs of Keras's.
    *(
        Row(name, ("training/optimizers.py",), _adam)
        for name in (
            "_apply_weight_decay",
            "_get_variable_index",
            "_model_variables_moving_average",
            "_momentums",
            "_trainable_variables",
            "_use_weight_decay",
            "_velocities",
        )
    ),
    # Gradients of our own, without `tf.custom_gradient` (see `backends/tensorflow.py`).
    Row("tensorflow.python.eager.record", ("layers/backends/tensorflow.py",)),
    Row("stop_recording", (), lambda: importlib.import_module("tensorflow.python.eager.record")),
    Row("record_operation", (), lambda: importlib.import_module("tensorflow.python.eager.record")),
    Row("tensorflow.python.ops.control_flow_util", ("layers/backends/tensorflow.py",)),
    Row(
        "GraphOrParentsInXlaContext",
        (),
        lambda: importlib.import_module("tensorflow.python.ops.control_flow_util"),
    ),
    Row("tensorflow.compiler.tf2xla.python.xla", ("layers/backends/tensorflow.py",)),
    Row(
        "optimization_barrier",
        (),
        lambda: importlib.import_module("tensorflow.compiler.tf2xla.python.xla"),
    ),
    Row(
        "tensorflow.python.framework.convert_to_constants.convert_variables_to_constants_v2",
        ("export.py",),
    ),
    # KerasTuner's oracles.
    Row("_duplicate", ("search/oracles.py",), lambda: _tuner("RandomSearchOracle")),
    Row("_save_trial", ("search/oracles.py",), lambda: _tuner("RandomSearchOracle")),
    Row("_random_values", ("search/oracles.py",), lambda: _tuner("BayesianOptimizationOracle")),
    Row("_nonfixed_space", ("search/oracles.py",), lambda: _tuner("BayesianOptimizationOracle")),
    Row("_vectorize_trials", ("search/oracles.py",), lambda: _tuner("BayesianOptimizationOracle")),
    Row("_get_next_combination", ("search/oracles.py",), lambda: _tuner("GridSearchOracle")),
    Row("_current_bracket", ("search/oracles.py",), _hyperband),
    Row("_get_size", ("search/oracles.py",), _hyperband),
    Row("_get_num_brackets", ("search/oracles.py",), _hyperband),
    # argparse, to name what was nearly typed.
    Row("_check_value", ("cli/__init__.py",), argparse.ArgumentParser),
    Row("_option_string_actions", ("cli/__init__.py",), argparse.ArgumentParser),
    Row("_actions", ("cli/shared.py",), argparse.ArgumentParser),
)


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


def _trees():
    return {str(p.relative_to(ROOT)): ast.parse(p.read_text()) for p in ROOT.rglob("*.py")}


def _defined(trees):
    """Yield every name that the package itself gives to something."""
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _foreign_attributes(tree, own):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            of_a_base = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if of_a_base or node.attr not in own | DOCUMENTED:
                yield node.attr


def _foreign_imports(tree):
    for node in ast.walk(tree):
        names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "asname")]
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        for name in names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            parts = name.split(".")
            private = {"python", "src"} & set(parts) or any(map(_is_private, parts))
            if private and parts[0] != "keras_resnext":
                yield name


def _overridden(path):
    """Yield the private methods of others that the classes of a module replace."""
    name = ".".join(("keras_resnext", *pathlib.Path(path).with_suffix("").parts))
    for kind in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
        bases = kind.__mro__ if inspect.isclass(kind) else ()
        ours = [base for base in bases if base.__module__.startswith("keras_resnext")]
        theirs = {name for base in bases if base not in ours for name in vars(base)}
        for method in (method for base in ours for method in vars(base)):
            if (
                _is_private(method)
                and method in theirs
                and inspect.isfunction(getattr(kind, method))
            ):
                yield method


def _overriding(tree):
    """Whether a class of a module has bases and private methods."""
    return any(
        isinstance(node, ast.ClassDef)
        and node.bases
        and any(isinstance(d, ast.FunctionDef) and _is_private(d.name) for d in node.body)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("row", PRIVATE, ids=lambda row: row.name)
def test_a_private_name_is_there(row):
    if row.owner is not None:
        assert hasattr(row.owner(), row.name)
        return
    module, _, name = row.name.rpartition(".")
    try:
        assert getattr(importlib.import_module(module), name) is not None
    except AttributeError:
        importlib.import_module(row.name)


def test_every_private_name_is_listed():
    trees = _trees()
    own = set(_defined(trees))
    used = {
        (name, path)
        for path, tree in trees.items()
        for name in (
            *_foreign_attributes(tree, own),
            *_foreign_imports(tree),
            *(_overridden(path) if _overriding(tree) else ()),
        )
    }
    assert used == {(row.name, path) for row in PRIVATE for path in row.files}
