"""The lines of the architecture that a change could cross without noticing."""

import ast
import doctest
import importlib
import pathlib
import pkgutil

import pytest

import keras_resnext
from keras_resnext.models import variants

ROOT = pathlib.Path(keras_resnext.__file__).parent
EVERYONE_MAY = {"channels", "checks", "errors", "imagenet", "processor", "version"}
# What else each part may import of the others.
ALLOWED = {
    "layers": set(),
    "models": {"layers"},
    "weights": {"layers", "models"},
    "applications": {"layers", "models", "weights"},
    "data": set(),
    "plots": {"data"},  # the types that it draws
    "imagenet_utils": {"layers", "models"},
    "model_files": {"applications", "models"},
    "convert": {"applications", "model_files", "models", "weights"},
    "training": {"applications", "data", "layers", "model_files", "models", "plots", "weights"},
    "export": {"layers", "models", "weights"},
    "evaluation": {
        "applications",
        "data",
        "export",
        "imagenet_utils",
        "layers",
        "model_files",
        "models",
        "plots",
        "training",
        "weights",
    },
    "search": {"applications", "data", "models", "plots", "training"},
    "cli": {
        "applications",
        "convert",
        "data",
        "evaluation",
        "export",
        "layers",
        "model_files",
        "models",
        "plots",
        "search",
        "training",
        "weights",
    },
}
# Nothing here may need TensorFlow to be installed: JAX and PyTorch build every model.
WITHOUT_TENSORFLOW = ("models", "layers/grouped_conv.py", "layers/batch_norm.py", "errors.py")


def _modules():
    names = [m.name for m in pkgutil.walk_packages([str(ROOT)], "keras_resnext.")]
    return [n for n in names if ".backends." not in n and not n.endswith("__main__")]


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part):
    files = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else (ROOT / part).rglob("*.py")
    for path in files:
        for module in _imports(path):
            if module.startswith("keras_resnext."):
                used = module.split(".")[1]
                assert used in ALLOWED[part] | {part} | EVERYONE_MAY, (path, module)


def test_every_part_is_named_above():
    parts = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert parts - {"__init__", "__main__"} - EVERYONE_MAY == set(ALLOWED)


def test_models_need_no_tensorflow():
    for place in WITHOUT_TENSORFLOW:
        path = ROOT / place
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            assert not any(m.split(".")[0] == "tensorflow" for m in _imports(file)), file


def test_the_one_door_lists_every_row_and_all_of_it_opens():
    assert set(variants.VARIANTS) <= set(keras_resnext.__all__)
    for name in keras_resnext.__all__:
        assert getattr(keras_resnext, name) is not None
    with pytest.raises(AttributeError):
        _ = keras_resnext.ResNeXt51


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder().find(importlib.import_module(name)):
        if test.name.split(".")[-1] not in variants.VARIANTS:  # test_variants runs those
            runner.run(test)
    assert not runner.summarize().failed


def test_public_names_are_documented():
    for name in keras_resnext.__all__:
        value = getattr(keras_resnext, name)
        assert isinstance(value, str) or len(value.__doc__) > 40, name


def test_layers_open_without_an_import_of_their_own():
    assert keras_resnext.layers.GroupedConv2D is keras_resnext.GroupedConv2D
