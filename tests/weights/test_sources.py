import json
import re
from pathlib import Path

import pytest

from keras_resnext.models import variants
from keras_resnext.weights import sources
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.sources import ImageSpec, find_source, source_of

ADDRESSES = {
    False: r"https://huggingface\.co/timm/(?P<name>[\w.]+)/resolve/main/model\.safetensors",
    True: r"https://download\.pytorch\.org/models/(?P<name>\w+)-(?P<hash>[0-9a-f]{8})\.pth",
}
TIMM_IMAGES = json.loads((Path(__file__).parents[1] / "golden/timm_images.json").read_text())
IMAGENET = (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", sources.SOURCES)
def test_every_row_is_a_network_we_build_and_complete(name):
    row = sources.SOURCES[name]
    timm_config(row.network)
    address = re.fullmatch(ADDRESSES[row.sha256 is not None], row.url)
    assert address["name"] == (row.network if row.sha256 else row.name)
    # torchvision puts the first digits of a file's hash into its name.
    assert row.sha256 == address.groupdict().get("hash")
    for images in (row.train, row.test):
        assert 160 <= images.size <= 352 and 0.8 < images.crop <= 1
        assert images.interpolation in ("bilinear", "bicubic")
    assert row.test.size >= row.train.size
    assert row.noncommercial == row.tag.startswith("fb_")
    assert len(row.tag.split("_")) >= 2


@pytest.mark.parametrize("name", TIMM_IMAGES)
def test_images_are_those_of_timms_configuration(name):
    """Size, crop and interpolation, size and crop in testing, and the first mean: timm 1.0."""
    row = sources.SOURCES[name]
    train, test = row.train, row.test
    ours = [train.size, train.crop, train.interpolation, test.size, test.crop, train.mean[0]]
    assert ours == TIMM_IMAGES[name]
    assert (test.interpolation, test.mean, test.std) == (
        train.interpolation,
        train.mean,
        train.std,
    )
    assert train.mean == (IMAGENET if train.mean[0] == IMAGENET[0] else (0.5, 0.5, 0.5))


def test_every_checkpoint_on_the_hub_has_images_of_timm():
    hub = {name for name, row in sources.SOURCES.items() if row.sha256 is None}
    assert set(TIMM_IMAGES) == hub


@pytest.mark.parametrize(
    "name, train, test",
    [
        ("resnext50_32x4d.IMAGENET1K_V1", ImageSpec(), ImageSpec()),
        ("resnext50_32x4d.IMAGENET1K_V2", ImageSpec(176), ImageSpec(224, 0.965)),
        ("resnext101_64x4d.IMAGENET1K_V1", ImageSpec(176), ImageSpec(224, 0.965)),
    ],
)
def test_images_are_torchvisions(name, train, test):
    row = sources.SOURCES[name]
    assert (row.train, row.test) == (train, test)


@pytest.mark.parametrize(
    "model, name",
    [
        ("ResNet50", "resnet50.a1_in1k"),
        ("SEResNeXt50", "seresnext50_32x4d.racm_in1k"),
        ("ResNeXt101_32x8d", "resnext101_32x8d.tv2_in1k"),
        ("ResNeXt101", "resnext101_32x4d.gluon_in1k"),
        ("ECAResNetLight", "ecaresnetlight.miil_in1k"),
        ("InceptionV3", "inception_v3.tf_in1k"),
        ("InceptionResNetV2", "inception_resnet_v2.tf_in1k"),
    ],
)
def test_imagenet_is_a_documented_default(model, name):
    assert source_of(variants.get(model), "imagenet").name == name


def test_every_checkpoint_of_timm_that_we_name_belongs_to_a_row():
    found = {sources.timm_network(row) for row in variants.VARIANTS.values()}
    assert set(sources.TAGS) <= found


def test_what_is_not_published_is_said_with_the_nearest():
    with pytest.raises(
        ValueError, match='"resnext50_2x40d" is published. The nearest is of "resnext50'
    ):
        source_of(variants.get("ResNeXt50_2x40d"), "imagenet")
    with pytest.raises(ValueError, match='"resnet26" is published'):
        find_source("resnet26")
    with pytest.raises(ValueError, match='checkpoint of resnet50 "a1_in1".*"a1_in1k"'):
        find_source("resnet50", "a1_in1")


def test_another_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    assert find_source("resnet18").url.startswith("http://127.0.0.1:1/timm/resnet18.a1_in1k/")
