"""The report of a search: every picture that there is something for, and a page by itself."""

import html.parser
import json
import pathlib
import shutil

import pytest
from PIL import Image

from keras_resnext.search import pictures
from keras_resnext.search.driver import search
from keras_resnext.search.folder import Folder
from keras_resnext.search.report import write_report
from keras_resnext.search.space import Space
from keras_resnext.search.table import front

PICTURES = ("cardinality", "weight_decay", "importance", "parallel", "front", "best_so_far")


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.images += [dict(attributes)["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def finished(at_once_in_module, tmp_path_factory):
    output = tmp_path_factory.mktemp("search") / "s"
    space = Space(
        model="ResNeXt35",
        budget={"macs": "ResNeXt35"},
        vary={
            "cardinality": [1, 2, 4, 8, 16],
            "weight_decay": {"low": 1e-6, "high": 1e-3, "scale": "log"},
        },
        fixed={"epochs": 3},
    )
    search(space, "digits", output, oracle="random", trials=12)
    return output


@pytest.fixture
def searched(finished, tmp_path):
    """A folder of its own for each test, which may change it."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "s"))


def test_every_picture_is_drawn_and_in_the_page(searched):
    folder = Folder(searched)
    folder.trial("03").finish({"status": "failed", "reason": "killed <b>by</b> a test"})
    page = _Page(write_report(searched, {"random <search>": searched}).read_text())
    for name in PICTURES:
        with Image.open(searched / f"{name}.png") as picture:
            assert picture.width > 1000
            extrema = picture.convert("L").getextrema()
            assert extrema[0] < 100 < 250 < extrema[1]
    assert len(page.images) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert "03: killed <b>by</b> a test" in page.text
    assert "http" not in page.text


def test_what_was_not_searched_is_not_drawn(searched, monkeypatch):
    for name in ("importance", "parallel_coordinates", "accuracy_and_speed", "best_so_far"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    (searched / "weight_decay.png").write_text("of an earlier report")
    for trial in Folder(searched).trials():
        spec = trial.spec
        spec["training"]["weight_decay"] = 1e-4
        (trial.path / "trial.json").write_text(json.dumps(spec))
    write_report(searched)
    assert not (searched / "weight_decay.png").exists() and (searched / "cardinality.png").exists()


def test_no_search_no_report(tmp_path):
    with pytest.raises(ValueError, match="holds no search"):
        write_report(tmp_path)


def test_the_label_of_the_search_itself_is_taken(searched):
    with pytest.raises(ValueError, match='"random" is the label of the search'):
        write_report(searched, {"random": searched})
    assert not (searched / "report.html").exists()


def test_the_front_is_what_no_trial_beats():
    rows = [{"top1": a, "images_per_second": s} for a in (1, 2, 3, 4) for s in (1, 2, 3, 4)]
    rows = [row for row in rows if row["top1"] + row["images_per_second"] <= 5]
    found = {(row["top1"], row["images_per_second"]) for row in front(rows)}
    beaten = {
        (a["top1"], a["images_per_second"])
        for a in rows
        for b in rows
        if b is not a
        and b["top1"] >= a["top1"]
        and b["images_per_second"] >= a["images_per_second"]
    }
    every = {(row["top1"], row["images_per_second"]) for row in rows}
    assert found == every - beaten == {(1, 4), (2, 3), (3, 2), (4, 1)}
