"""Pictures: that they are drawn, show what the history says, and touch no global state."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_resnext import plots


def history(path, *rows):
    lines = ["epoch,loss,top1,val_loss,val_top1", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures = []
    write = plots._write
    monkeypatch.setattr(plots, "_write", lambda f, path: (figures.append(f), write(f, path)))
    return figures


def test_learning_curve(tmp_path, drawn):
    source = history(tmp_path / "h.csv", (1, 2.0, 0.3, 1.9, 0.35), (2, 1.0, 0.7, 1.2, 0.6))
    plots.plot_history(source, tmp_path / "h.png", "Net on toys")
    image = Image.open(tmp_path / "h.png")
    assert image.size == (1600, 680) and image.format == "PNG"
    assert len(image.convert("RGB").getcolors(1 << 20)) > 10

    loss, accuracy = drawn[0].axes
    assert drawn[0].get_suptitle() == "Net on toys"
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"
    assert "%" in accuracy.get_ylabel() and "loss" in loss.get_ylabel()
    training, test = accuracy.get_lines()
    np.testing.assert_allclose(training.get_xdata(), [1, 2])
    np.testing.assert_allclose(training.get_ydata(), [30, 70])
    np.testing.assert_allclose(test.get_ydata(), [35, 60])
    np.testing.assert_allclose(
        [line.get_ydata() for line in loss.get_lines()], [[2, 1], [1.9, 1.2]]
    )
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["training: 70.0", "test: 60.0"]


def test_a_single_epoch_is_seen(tmp_path, drawn):
    plots.plot_history(history(tmp_path / "h.csv", (1, 2, 0.3, 1.9, 0.35)), tmp_path / "h.png", "")
    assert all(line.get_marker() == "o" for axes in drawn[0].axes for line in axes.get_lines())


def test_wide_numbers_have_room(tmp_path, drawn):
    source = history(
        tmp_path / "h.csv", (1, 123456, 0.9991, 0.1, 0.9992), (2, 65432, 0.9995, 0.2, 0.9993)
    )
    plots.plot_history(source, tmp_path / "h.png", "Net")
    loss, accuracy = (axes.get_tightbbox() for axes in drawn[0].axes)
    assert 0 <= loss.x0 < loss.x1 <= accuracy.x0 < accuracy.x1 <= drawn[0].bbox.width


def test_a_dollar_in_a_name_begins_no_formula(tmp_path, drawn):
    odd = "odd $x_{$"
    row = {"model": odd, "form": "keras", "precision": "float32", "batch_size": 1}
    plots.plot_throughput([{**row, "images_per_second": 9.0}], tmp_path / "t.png", odd)
    plots.plot_history(history(tmp_path / "h.csv", (1, 2, 0.3, 1.9, 0.35)), tmp_path / "h.png", odd)
    plots.plot_grid(np.zeros((1, 4, 4, 3), "uint8"), [odd], tmp_path / "g.png", odd)
    assert len(drawn) == 3


def test_several_runs_in_one_picture(tmp_path, drawn):
    runs = {
        name: history(tmp_path / name, (1, 2, 0.3, 1.9, 0.35), (2, 1, 0.7, 1.2, last))
        for name, last in (("ResNet20", 0.6), ("ResNeXt", 0.65))
    }
    plots.plot_curves(runs, tmp_path / "runs.png", "CIFAR-10")
    labels = [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()]
    assert labels == ["ResNet20: 60.0", "ResNeXt: 65.0", "dotted: training"]
    solid = [line for line in drawn[0].axes[1].get_lines() if line.get_linestyle() == "-"]
    np.testing.assert_allclose([line.get_ydata()[-1] for line in solid], [60, 65])
    assert len({line.get_color() for line in solid}) == 2


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="`histories` is empty"):
        plots.plot_curves({}, tmp_path / "a.png", "")
    with pytest.raises(ValueError, match="h.csv has no epoch"):
        plots.plot_history(history(tmp_path / "h.csv"), tmp_path / "a.png", "")
    assert not (tmp_path / "a.png").exists()


def test_throughput(tmp_path, drawn):
    rows = [
        {"model": "Net", "form": form, "precision": "float32", "batch_size": n}
        | {"images_per_second": rate}
        for form, n, rate in (("keras", 1, 9.0), ("folded", 1, 10.0), ("keras", 16, 20.0))
    ]
    plots.plot_throughput(rows, tmp_path / "t.png", "rates")
    one, many = drawn[0].axes
    assert (one.get_title("left"), many.get_title("left")) == ("batch of 1", "batch of 16")
    assert [bar.get_width() for bar in one.patches] == [10, 9]  # the first is on top
    assert [text.get_text() for text in one.get_yticklabels()][-1] == "Net, keras, float32"
    assert [bar.get_width() for bar in many.patches] == [20]
    with pytest.raises(ValueError, match="`rows` is empty"):
        plots.plot_throughput([], tmp_path / "t.png", "")


def test_explanation(tmp_path, drawn):
    image, heat = np.full((6, 8, 3), 0.5), np.eye(3)
    plots.plot_explanation(image, heat, tmp_path / "e.png", "cat: 93.0%")
    plain, overlaid = drawn[0].axes
    assert drawn[0].get_suptitle() == "cat: 93.0%"
    (shown,) = plain.get_images()
    np.testing.assert_array_equal(shown.get_array(), image)
    under, over = overlaid.get_images()
    np.testing.assert_array_equal(over.get_array(), heat)
    assert under.get_extent() == over.get_extent() == [0, 8, 6, 0]


def test_pyplot_stays_out():
    code = "import sys, keras_resnext.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
