"""Configurations of tiny residual networks, and a reading that writes down what is made."""

import random

from keras_resnext import ResNetConfig
from keras_resnext.models.attention import ATTENTIONS
from keras_resnext.models.blocks import BLOCKS, BRANCHED_FORMS, DOWNSAMPLINGS
from keras_resnext.models.counting import Counts
from keras_resnext.models.networks import features
from keras_resnext.models.primitives import Primitives
from keras_resnext.models.shortcuts import SHORTCUTS
from keras_resnext.models.stems import STEM_POOLS, STEMS

# The tables of parts, by the field of the configuration that names their rows.
TABLES = {
    "attention": ATTENTIONS,
    "block": BLOCKS,
    "downsample": DOWNSAMPLINGS,
    "shortcut": SHORTCUTS,
    "stem": STEMS,
    "stem_pool": STEM_POOLS,
}
# What a field may be, at sizes that build at once; together they may still be impossible.
VALUES = {
    "blocks": [(1,), (2,), (2, 1), (2, 2), (3, 1), (1, 2), (2, 2, 1)],
    "filters": [(8,), (16,), (8, 16), (16, 8), (16, 16), (16, 32), (8, 16, 32)],
    "cardinality": [1, 1, 2, 4],
    "width_per_group": [16, 32, 64],
    "form": ["c", "c", *BRANCHED_FORMS],
    "stem_filters": [8, 16],
    "stride_on": ["3x3", "3x3", "1x1"],
    "stride_block": ["first", "first", "last"],
    "attention_ratio": [None, 0.25],
    "attention_bias": [True, False],
    "big_little": [None, None, (1, 2), (2, 1), (2, 4)],
    "preactivation": [True, False],
    "zero_gamma": [True, False],
    "drop_block": [0.0, 0.1],
    "drop_block_size": [1, 3, 7],
    "drop_path": [0.0, 0.2],
    "drop_steps": [0, 10],
    "use_bias": [True, False],
    "norm_momentum": [0.9, 0.99],
    "norm_epsilon": [1e-5, 1e-3],
    "dropout": [0.0, 0.3],
    "l2": [0.0, 1e-4],
} | {field: list(table) for field, table in TABLES.items()}
BASES = (
    {"blocks": (2, 1), "filters": (16, 32), "stem": "cifar", "stem_filters": 8},
    {"blocks": (2, 1), "filters": (16, 16), "stem_filters": 8, "big_little": (2, 2)},
    {"blocks": (1, 1), "filters": (8, 16), "stem": "deep", "block": "basic"},
)


def draw_configs(count, seed=0):
    """Draw possible configurations, each a base with some fields changed."""
    generator = random.Random(seed)
    configs = []
    while len(configs) < count:
        names = generator.sample(sorted(VALUES), generator.randint(2, 9))
        changes = {name: generator.choice(VALUES[name]) for name in names}
        try:
            configs.append(ResNetConfig(**generator.choice(BASES) | changes))
        except ValueError:
            continue
    return configs


class Record(Counts):
    """Counts a network, and writes down each layer: its primitive and the shape it leaves."""

    def __init__(self, config, size, channels=3):
        super().__init__(config)
        self.made, self.shapes = [], {}
        features(self, (size, size, channels))

    block = Primitives.block  # nothing is skipped


def _recorded(name):
    def primitive(self, *arguments, **keywords):
        made = getattr(Counts, name)(self, *arguments, **keywords)
        texts = [value for value in (*arguments, *keywords.values()) if isinstance(value, str)]
        self.made.append((name, *arguments[1:], *keywords.items()))
        self.shapes.update(dict.fromkeys(texts, made))
        return made

    return primitive


for _name in Primitives.__abstractmethods__ - {"channels", "layer"}:
    setattr(Record, _name, _recorded(_name))
