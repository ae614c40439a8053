"""The plots of the package, as PNG files, drawn without Matplotlib's global state."""

import csv
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from keras_resnext.data.profile import Profile

# Distinguishable by color-blind readers (Okabe and Ito).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The columns of history.csv in each panel: training, testing, label of the axis, factor.
PANELS = (("loss", "val_loss", "loss (nats)", 1), ("top1", "val_top1", "top-1 accuracy (%)", 100))


def plot_history(history: str | Path, path: str | Path, title: str) -> None:
    """Draw the learning curves of one run from its history.csv, to be shown at half the size."""
    rows = read_history(history)
    figure, panels = _figure(title)
    for axes, (train, test, *_, factor) in zip(panels, PANELS, strict=True):
        for column, label, color in ((train, "training", 0), (test, "test", 1)):
            label = _with_last(label, rows, column, factor)
            _draw(axes, rows, column, factor, label=label, color=COLORS[color])
        axes.legend(frameon=False, fontsize=12)
    _write(figure, path)


def plot_curves(histories: Mapping[str, str | Path], path: str | Path, title: str) -> None:
    """Draw the learning curves of several runs, each a history.csv, by label."""
    if not histories:
        raise ValueError("`histories` is empty. Expected the history.csv of at least one run.")
    runs = {label: read_history(history) for label, history in histories.items()}
    figure, panels = _figure(title)
    for axes, (train, test, *_, factor) in zip(panels, PANELS, strict=True):
        for number, (label, rows) in enumerate(runs.items()):
            color = COLORS[number % len(COLORS)]
            _draw(axes, rows, train, factor, color=color, linestyle=":", linewidth=1.5)
            label = _with_last(label, rows, test, factor)
            _draw(axes, rows, test, factor, color=color, label=label)
        axes.plot([], [], color="gray", linestyle=":", linewidth=1.5, label="dotted: training")
        axes.legend(frameon=False, fontsize=12)
    _write(figure, path)


def plot_throughput(rows: Sequence[Mapping], path: str | Path, title: str) -> None:
    """Draw the rows of `evaluation.throughput`, with a panel per batch size."""
    if not rows:
        raise ValueError("`rows` is empty. Expected at least one measurement.")
    by_batch = {}
    for row in rows:
        label = f"{row['model']}, {row['form']}, {row['precision']}"
        by_batch.setdefault(row["batch_size"], {})[label] = row["images_per_second"]
    count = sum(map(len, by_batch.values()))
    figure = Figure(
        figsize=(10, 1 + 0.7 * len(by_batch) + 0.4 * count), dpi=160, layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=15)
    heights = [len(values) + 1 for values in by_batch.values()]
    panels = figure.subplots(len(by_batch), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (batch_size, values) in zip(panels, by_batch.items(), strict=True):
        labels = list(values)[::-1]
        bars = axes.barh(labels, [values[label] for label in labels], color=COLORS[0])
        axes.bar_label(bars, fmt=" %.3g", fontsize=12)
        axes.set_title(f"batch of {batch_size}", fontsize=13, loc="left")
        axes.tick_params(labelsize=12)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("images per second (more is better)", fontsize=13)
    _write(figure, path)


def plot_explanation(image: np.ndarray, heat: np.ndarray, path: str | Path, title: str) -> None:
    """Draw an RGB image (height, width, 3) and its heat map (rows, columns), both from 0 to 1."""
    figure = Figure(figsize=(8, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14)
    height, width = image.shape[:2]
    place = {"extent": (0, width, height, 0), "vmin": 0, "vmax": 1}
    plain, overlaid = figure.subplots(1, 2)
    for axes in (plain, overlaid):
        axes.imshow(image, **place)
        axes.set_axis_off()
    overlaid.imshow(heat, cmap="inferno", interpolation="bilinear", alpha=0.5, **place)
    _write(figure, path)


def read_history(history: str | Path) -> list[dict[str, float]]:
    """Return a row per epoch of a history.csv, with numbers by column."""
    with open(history, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows = [{name: float(value or "nan") for name, value in row.items()} for row in table]
    if not rows:
        raise ValueError(f"{history} has no epoch. Expected a header and a row for each.")
    return rows


def plot_profile(profile: "Profile", path: str | Path, title: str) -> None:
    """Draw the rate of each stage of an input pipeline, and that of the model."""
    figure = Figure(figsize=(10, 4.4), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}\n{textwrap.fill(profile.verdict, 105)}", fontsize=11.5)
    stages, share = figure.subplots(1, 2, width_ratios=(4, 1))
    names = list(profile.stages)
    for offset, values, label, color in (
        (-0.2, profile.stages, "by itself", 5),
        (0.2, profile.in_place, "in place, with all before it", 0),
    ):
        places = [number + offset for number in range(len(names))]
        rates = [values[name] for name in names]
        bars = stages.barh(places, rates, 0.38, label=label, color=COLORS[color])
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        stages.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=4, fontsize=11, bbox=box)
    if profile.model is not None:
        label = f"the model can take {profile.model:,.0f}"
        stages.axvline(profile.model, color=COLORS[1], linewidth=2.2, label=label)
        label = f"both together give {profile.together:,.0f}"
        stages.axvline(profile.together, color=COLORS[1], linestyle=":", linewidth=2, label=label)
    stages.set_yticks(range(len(names)), names, fontsize=13)
    stages.invert_yaxis()
    stages.set_xscale("log")
    stages.margins(x=0.15)
    stages.set_xlabel("images per second (logarithmic)", fontsize=12)
    # There is not always room beside the bars.
    stages.legend(frameon=False, fontsize=10, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    _draw_waiting(share, profile.waiting)
    for axes in (stages, share):
        axes.spines[["top", "right"]].set_visible(False)
    _write(figure, path)


def _draw_waiting(axes: Axes, waiting: float | None) -> None:
    if waiting is None:
        axes.set_axis_off()
        return
    parts = (("training", 1 - waiting, 2), ("waiting", waiting, 1))
    for name, part, color in parts:
        bars = axes.bar([name], [100 * part], color=COLORS[color])
        axes.bar_label(bars, [f"{part:.0%}"], fontsize=11)
    axes.set_ylim(0, 112)
    axes.set_ylabel("share of the step (%)", fontsize=12)
    axes.tick_params(labelsize=11)


def plot_grid(images: np.ndarray, captions: Sequence[str], path: str | Path, title: str) -> None:
    """Draw uint8 images (count, height, width, 3) in a grid, each with a caption."""
    columns = math.ceil(math.sqrt(len(images) * 1.6))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.7 * columns, 1.95 * rows + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(caption, fontsize=9)
    _write(figure, path)


def _figure(title: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(10, 4.25), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=15)
    panels = figure.subplots(1, len(PANELS))
    for axes, (*_, label, _factor) in zip(panels, PANELS, strict=True):
        axes.set_xlabel("epoch", fontsize=13)
        axes.set_ylabel(label, fontsize=13)
        axes.tick_params(labelsize=12)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _with_last(label: str, rows: Sequence[Mapping], column: str, factor: float) -> str:
    """Append the last value of a curve, with three digits, to its label."""
    return f"{label}: {rows[-1][column] * factor:#.3g}"


def _draw(axes: Axes, rows: Sequence[Mapping], column: str, factor: float, **style: object) -> None:
    style = {"linewidth": 2.2, **style}
    if len(rows) == 1:  # a line of one point would not be seen
        style["marker"] = "o"
    x = [row["epoch"] for row in rows]
    axes.plot(x, [row[column] * factor for row in rows], **style)


def _write(figure: Figure, path: str | Path) -> None:
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a $ in the name of a folder or a class begins no formula
    # Lay out once: `savefig` would draw twice, while training waits.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    figure.savefig(path, format="png")
