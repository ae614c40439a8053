"""Every row of every table of parts is whole: made, counted, and named for timm or refused."""

import dataclasses

import keras
import pytest
from networks import TABLES, Record

from keras_resnext import ResNetConfig, create_model
from keras_resnext.models.attention import ATTENTIONS, Attention
from keras_resnext.models.complexity import complexity
from keras_resnext.models.counting import count
from keras_resnext.models.shortcuts import SHORTCUTS, Shortcut
from keras_resnext.models.stems import STEMS, Stem
from keras_resnext.weights.load import to_timm
from keras_resnext.weights.timm_names import TABLES as NAMED

TINY = ResNetConfig(blocks=(2, 1), filters=(8, 16), stem_filters=8)
ROWS = [(field, name) for field, table in TABLES.items() for name in table]


def config_with(field, name):
    """A small network with that row, in whatever else it needs."""
    for others in ({}, {"cardinality": 2}, {"block": "basic"}, {"block": "basic", "stem": "deep"}):
        try:
            return TINY.replace(**others | {field: name})
        except ValueError as error:
            reason = error
    raise reason


def check_row(field, name):
    """Raise an error unless the row is made as it is counted, is unlike all others, and named."""
    config = config_with(field, name)
    made = Record(config, 33).made
    for other in TABLES[field]:
        if other != name:
            assert made != Record(config_with(field, other), 33).made, f"{name} is {other}"
    model = create_model(config, input_shape=(33, 33, 3), classes=2)
    assert count(config, 33, 2) == complexity(model)
    keras.backend.clear_session()
    if any(table[getattr(config, named)].timm is None for named, table in NAMED.items()):
        with pytest.raises(ValueError, match=f'timm has no network with {field}="{name}"'):
            to_timm(model, config)
    else:
        assert len(to_timm(model, config)) == len(model.weights)


@pytest.mark.parametrize("field, name", ROWS)
def test_a_row_is_whole(field, name):
    check_row(field, name)


# Parameters, trainable ones and multiply-adds at 33 pixels and two classes, by other arithmetic.
COUNTS = {
    "attention-none": (10618, 10026, 697304),
    "attention-se": (12818, 12226, 699352),
    "attention-eca": (10627, 10035, 697688),
    "attention-sk": (17658, 16810, 851288),
    "attention-sk_split": (11610, 10906, 698072),
    "attention-sk_assembled": (17658, 16810, 851288),
    "block-basic": (7450, 7274, 616120),
    "block-bottleneck": (10618, 10026, 697304),
    "block-separable": (10662, 9880, 705256),
    "block-multi_kernel": (16876, 16212, 963946),
    "block-multi_dilation": (16698, 15978, 982680),
    "downsample-stride": (10618, 10026, 697304),
    "downsample-blur": (10618, 10026, 826328),
    "downsample-average": (10618, 10026, 826328),
    "shortcut-A": (7930, 7530, 625368),
    "shortcut-B": (10618, 10026, 697304),
    "shortcut-C": (11770, 11114, 780248),
    "shortcut-D": (10618, 10026, 697304),
    "shortcut-D3": (10618, 10026, 697304),
    "shortcut-none": (7930, 7530, 625368),
    "stem-7x7": (10618, 10026, 697304),
    "stem-deep": (10014, 9406, 513500),
    "stem-tiered": (9947, 9341, 495293),
    "stem-cifar": (9658, 9066, 4785944),
    "stem_pool-max": (10618, 10026, 697304),
    "stem_pool-blur": (10618, 10026, 697304),
    "stem_pool-average": (10618, 10026, 602136),
    "stem_pool-none": (10618, 10026, 1570776),
}


@pytest.mark.parametrize("row", COUNTS)
def test_a_row_costs_what_it_did(row):
    counted = count(config_with(*row.split("-")), 33, 2)
    assert (counted.parameters, counted.trainable, counted.macs) == COUNTS[row]


def ese(net, x, name):
    gates = net.dense(net.mean(x, f"{name}_mean"), net.channels(x), f"{name}_fc", "hard_sigmoid")
    return net.scale(x, gates, name)


def pooled(net, x, active, place):
    if place.strides > 1:
        x = net.max_pool(x, 2, place.strides, f"{place.name}_shortcut_pool", padding="same")
    missing = net.config.channels(place.planes) - net.channels(x)
    return net.zero_channels(x, missing, f"{place.name}_shortcut_zeros") if missing else x


NEW = {
    "attention": Attention(output=ese, timm={"attention_fc": "se.fc"}),
    "shortcut": Shortcut(make=pooled, timm={}, projects=False),
    "stem": Stem(
        convolutions=lambda filters: [(5, filters)],
        strides=2,
        timm={"stem_conv": "conv1", "stem_conv_norm": "bn1"},
    ),
}
HALVES = {
    "attention that makes nothing": ("attention", {"output": None}),
    "attention without its name": ("attention", {"timm": {}}),
    "shortcut that makes nothing": ("shortcut", {"make": SHORTCUTS["none"].make}),
    "stem that makes what another does": ("stem", {"convolutions": STEMS["7x7"].convolutions}),
    "stem without its names": ("stem", {"timm": {}}),
}


@pytest.mark.parametrize("field", NEW)
def test_a_new_row_is_all_that_a_new_part_needs(field, monkeypatch):
    with pytest.raises(ValueError, match=f'Unknown {field} "new"'):
        ResNetConfig(**{field: "new"})
    monkeypatch.setitem(TABLES[field], "new", NEW[field])
    check_row(field, "new")


@pytest.mark.parametrize("half", HALVES)
def test_half_a_row_fails(half, monkeypatch):
    field, changes = HALVES[half]
    monkeypatch.setitem(TABLES[field], "new", dataclasses.replace(NEW[field], **changes))
    with pytest.raises((AssertionError, ValueError)):
        check_row(field, "new")


def test_a_layer_is_counted_by_its_formula(monkeypatch):
    """A formula that leaves a layer out would let a search exceed its budget."""

    def wrong(net, x, name):
        return net.layer("SqueezeExcite", x, name, lambda net, x: x, reduced=4)

    monkeypatch.setitem(ATTENTIONS, "new", Attention(output=wrong, timm=ATTENTIONS["se"].timm))
    with pytest.raises(AssertionError):
        check_row("attention", "new")
