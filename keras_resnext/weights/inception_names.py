"""timm's and keras.applications' names for the layers of our Inception networks.

A kind of module is the names of its convolutions in the order of its filters.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping

from keras_resnext.models.inception_config import (
    InceptionConfig,
    Step,
    module_paths,
    stem_modules,
)

_V3 = {
    "stem": [f"Conv2d_{name}" for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")],
    "modules": [
        f"Mixed_{name}"
        for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    ],
    "predictions": "fc",
    "a": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 "
    "branch_pool",
    "a_reduction": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "b": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 "
    "branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5 branch_pool",
    "b_reduction": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 "
    "branch7x7x3_4",
    "c": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 "
    "branch3x3dbl_3a branch3x3dbl_3b branch_pool",
}

# The other networks number the branches, and the layers of a branch that has several.
_NUMBERED = {
    "a": "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1",
    "double_3x3": "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1",
    "a_reduction": "branch0 branch1.0 branch1.1 branch1.2",
    "b": "branch0 branch1.0 branch1.1 branch1.2 branch2.0 branch2.1 branch2.2 branch2.3 branch2.4 "
    "branch3.1",
    "b_reduction": "branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3",
    "c_v4": "branch0 branch1_0 branch1_1a branch1_1b branch2_0 branch2_1 branch2_2 branch2_3a "
    "branch2_3b branch3.1",
    "residual_a": "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2",
    "residual_b": "branch0 branch1.0 branch1.1 branch1.2",
    "residual_b_reduction": "branch0.0 branch0.1 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2",
    "residual_c": "branch0 branch1.0 branch1.1 branch1.2",
}

_V4 = {
    **_NUMBERED,
    "stem": [
        f"features.{name}"
        for name in (
            *("0", "1", "2", "3.conv"),
            *("4.branch0.0", "4.branch0.1"),
            *("4.branch1.0", "4.branch1.1", "4.branch1.2", "4.branch1.3"),
            "5.conv",
        )
    ],
    "modules": [f"features.{number}" for number in range(6, 22)],
    "predictions": "last_linear",
}

_RESNET_V2 = {
    **_NUMBERED,
    "stem": [f"conv2d_{name}" for name in ("1a", "2a", "2b", "3b", "4a")],
    "modules": [
        "mixed_5b",
        *[f"repeat.{number}" for number in range(10)],
        "mixed_6a",
        *[f"repeat_1.{number}" for number in range(20)],
        "mixed_7a",
        *[f"repeat_2.{number}" for number in range(9)],
        "block8",
    ],
    "features": "conv2d_7b",
    "predictions": "classif",
}

# By the stem and whether the modules are residual.
_TABLES = {("v3", False): _V3, ("v4", False): _V4, ("v3", True): _RESNET_V2}


def convolutions(config: InceptionConfig) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the stem's convolutions, and of each module's by its name."""
    stem = [f"stem_{step.name}" for paths in stem_modules(config) for step in _steps(paths)]
    modules = {
        name: [f"{name}_{step.name}" for step in _steps(module_paths(module))]
        for name, module in config.modules.items()
    }
    return stem, modules


@functools.cache
def timm_layers(config: InceptionConfig) -> Mapping[str, str]:
    """Return timm's names of our layers with weights; raise if timm has no such network."""
    table = _TABLES.get((config.stem, config.residual_scales != ()))
    stem, modules = convolutions(config)
    if table is None or len(table["modules"]) != len(modules):
        raise ValueError("timm has no Inception network of this configuration.")
    units = dict(zip(stem, table["stem"], strict=True))
    plain = {"predictions": table["predictions"]}
    for (name, module), theirs in zip(config.modules.items(), table["modules"], strict=True):
        inside = [f"{theirs}.{inner}" for inner in table[module.kind].split()]
        units.update(zip(modules[name], inside, strict=True))
        plain[f"{name}_expansion"] = f"{theirs}.conv2d"
    if "features" in table:
        units["features_conv"] = table["features"]
    convs = {ours: f"{theirs}.conv" for ours, theirs in units.items()}
    norms = {f"{ours}_norm": f"{theirs}.bn" for ours, theirs in units.items()}
    return {**convs, **norms, **plain}


def keras_layers(config: InceptionConfig, theirs: Iterable[str]) -> dict[str, str]:
    """Return keras.applications' names of our layers with weights.

    Most of its layers are only numbered, continuing from model to model, in the order of the
    papers' figures, which is also ours.
    """
    stem, modules = convolutions(config)
    ours = [*stem, *(name for module in modules.values() for name in module)]
    names = {"predictions": "predictions"}
    names |= {"features_conv": "conv_7b", "features_conv_norm": "conv_7b_bn"}
    for kind, suffix in (("conv2d", ""), ("batch_normalization", "_norm")):
        numbered = [name for name in theirs if re.fullmatch(rf"{kind}(_\d+)?", name)]
        numbered.sort(key=lambda name: int((re.findall(r"_(\d+)$", name) or [0])[0]))
        names |= zip((f"{name}{suffix}" for name in ours), numbered, strict=False)
    for name in theirs:
        if block := re.fullmatch(r"block(35|17|8)_(\d+)_conv", name):
            # The first module of a stage is not numbered as a block.
            stage = {"35": 2, "17": 3, "8": 4}[block[1]]
            names[f"stage{stage}_block{int(block[2]) + 1}_expansion"] = name
    return names


def _steps(paths: tuple) -> list[Step]:
    steps = itertools.chain.from_iterable(position for path in paths for position in path)
    return [step for step in steps if step.operation == "conv"]
