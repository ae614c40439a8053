"""The pictures of a search's report; None if there is too little to draw."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from keras_resnext import checks
from keras_resnext.plots import COLORS
from keras_resnext.search.table import front

COLOR_MAP = "viridis"
# A hyperparameter over more than this factor is shown on a logarithmic axis.
LOGARITHMIC = 10
BINS = 6


def accuracy_against(rows: Sequence[Mapping], name: str) -> Figure | None:
    """Draw the accuracy of every trial against a hyperparameter, and the best at each value."""
    rows = [row for row in rows if _is_number(row.get(name))]
    x = np.array([row[name] for row in rows], float)
    if len(set(x)) < 2:
        return None
    y = 100 * np.array([row["top1"] for row in rows])
    figure, axes = _figure(f"accuracy against {_title(name)}")
    axes.scatter(x, y, s=42, color=COLORS[5], alpha=0.8, label="a trial")
    groups = _groups(x)
    middles = [x[members].mean() for members in groups]
    best = [y[members].max() for members in groups]
    axes.plot(middles, best, color=COLORS[0], marker="o", linewidth=2.2, label="the best of them")
    if name == "cardinality":
        _label_widths(axes, rows)
    elif _is_logarithmic(x):
        axes.set_xscale("log")
        axes.set_xlabel(f"{name} (logarithmic)", fontsize=13)
    else:
        axes.set_xlabel(name, fontsize=13)
    axes.set_ylabel("top-1 accuracy, held out (%)", fontsize=13)
    axes.legend(frameon=False, fontsize=12)
    return figure


def parallel_coordinates(rows: Sequence[Mapping], names: Sequence[str]) -> Figure | None:
    """Draw a line per trial through an axis per hyperparameter, colored by accuracy."""
    if len(rows) < 2 or not names:
        return None
    figure, axes = _figure("every trial")
    top1 = 100 * np.array([row["top1"] for row in rows])
    places = np.stack([*(_places(rows, name) for name in names), _unit(top1)], axis=1)
    norm = Normalize(top1.min(), max(top1.max(), top1.min() + 1e-6))
    colors = figure.colorbar(ScalarMappable(norm, COLOR_MAP), ax=axes, pad=0.03)
    colors.set_label("top-1 accuracy, held out (%)", fontsize=12)
    for number in np.argsort(top1):
        color = colors.cmap(norm(top1[number]))
        axes.plot(places[number], color=color, alpha=0.85, linewidth=1.8)
    axes.set_xticks(range(len(names) + 1), [*names, "top-1"], rotation=20, ha="right")
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    for number, name in enumerate(names):
        axes.axvline(number, color="0.75", linewidth=1)
        low, high = _ends(rows, name)
        axes.text(number, -0.1, low, ha="center", fontsize=10)
        axes.text(number, 1.06, high, ha="center", fontsize=10)
    return figure


def importance(rows: Sequence[Mapping], names: Sequence[str]) -> Figure | None:
    """Draw the permutation importance of each hyperparameter, according to a random forest."""
    if len(rows) < 8 or not names:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    features = np.stack([_places(rows, name) for name in names], axis=1)
    top1 = np.array([row["top1"] for row in rows])
    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(features, top1)
    effects = permutation_importance(forest, features, top1, n_repeats=20, random_state=0)
    shares = np.maximum(effects.importances_mean, 0)
    shares = 100 * shares / (shares.sum() or 1)
    order = np.argsort(shares)
    figure, axes = _figure("importance of each hyperparameter")
    bars = axes.barh([names[k] for k in order], shares[order], color=COLORS[0])
    axes.bar_label(bars, fmt=" %.0f %%", fontsize=12)
    axes.margins(x=0.12)
    axes.set_xlabel("share of what a random forest explains (%)", fontsize=13)
    return figure


def accuracy_and_speed(rows: Sequence[Mapping]) -> Figure | None:
    """Draw accuracy against images per second in training, with their Pareto front."""
    rows = [row for row in rows if row["images_per_second"] is not None]
    if len(rows) < 2:
        return None
    figure, axes = _figure("accuracy against throughput")
    for subset, style in (
        (rows, {"color": COLORS[5], "linestyle": "", "label": "a trial"}),
        (front(rows), {"color": COLORS[1], "linewidth": 2.2, "label": "none is better in both"}),
    ):
        x = [row["images_per_second"] for row in subset]
        axes.plot(x, [100 * row["top1"] for row in subset], marker="o", **style)
    axes.set_xlabel("images per second in training", fontsize=13)
    axes.set_ylabel("top-1 accuracy, held out (%)", fontsize=13)
    axes.legend(frameon=False, fontsize=12)
    return figure


def best_so_far(searches: Mapping[str, Sequence[Mapping]]) -> Figure | None:
    """Draw the best accuracy of searches, by label, against the epochs trained."""
    figure, axes = _figure("best so far")
    drawn = False
    for number, (label, rows) in enumerate(searches.items()):
        rows = sorted(rows, key=lambda row: row["ended"])
        epochs = np.cumsum([row["trained_epochs"] or 0 for row in rows])
        top1 = [-math.inf if row["top1"] is None else 100 * row["top1"] for row in rows]
        best = np.maximum.accumulate(top1) if top1 else np.array([])
        seen = np.isfinite(best)
        if not seen.any():
            continue
        drawn = True
        color = COLORS[number % len(COLORS)]
        label = f"{label}: {best[-1]:.2f}"
        axes.step(epochs[seen], best[seen], where="post", color=color, linewidth=2.2, label=label)
        axes.plot(epochs[seen], best[seen], "o", color=color, markersize=4)
    axes.set_xlabel("epochs of all trials", fontsize=13)
    axes.set_ylabel("top-1 accuracy, held out (%)", fontsize=13)
    axes.legend(frameon=False, fontsize=12)
    return figure if drawn else None


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=15)
    axes = figure.subplots()
    axes.tick_params(labelsize=12)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _title(name: str) -> str:
    return "cardinality, at equal cost" if name == "cardinality" else name


def _label_widths(axes: Axes, rows: Sequence[Mapping]) -> None:
    widths = {}
    for row in rows:
        widths.setdefault(int(row["cardinality"]), set()).add(row.get("width_per_group"))
    cardinalities = sorted(widths)
    labels = [
        f"{c}x{next(iter(widths[c]))}d" if len(widths[c]) == 1 and None not in widths[c] else str(c)
        for c in cardinalities
    ]
    axes.set_xscale("log", base=2)
    axes.set_xticks(cardinalities, labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("cardinality x width of a group", fontsize=13)


def _groups(x: np.ndarray) -> list[np.ndarray]:
    """Return the indices of trials per value or, if it is continuous, per bin."""
    values = np.unique(x)
    if len(values) <= max(BINS, len(x) // 2):
        return [np.flatnonzero(x == value) for value in values]
    order = np.argsort(x)
    return [part for part in np.array_split(order, BINS) if len(part)]


def _places(rows: Sequence[Mapping], name: str) -> np.ndarray:
    values = [row[name] for row in rows]
    if not all(_is_number(value) for value in values):
        texts = sorted({str(value) for value in values})
        return _unit(np.array([texts.index(str(value)) for value in values], float))
    numbers = np.array(values, float)
    return _unit(np.log(numbers) if _is_logarithmic(numbers) else numbers)


def _ends(rows: Sequence[Mapping], name: str) -> tuple[str, str]:
    values = [row[name] for row in rows]
    if not all(_is_number(value) for value in values):
        texts = sorted({str(value) for value in values})
        return texts[0], texts[-1]
    return f"{min(values):.3g}", f"{max(values):.3g}"


def _unit(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _is_logarithmic(x: np.ndarray) -> bool:
    return bool(x.min() > 0 and x.max() / x.min() >= LOGARITHMIC)


_is_number = checks.number().holds
