"""The three equivalent forms of one ResNeXt-50 block (32x4d, 56x56x256): what each takes.

    python benchmarks/forms.py

Forward, and forward and backward, of the block in form (a), (b) and (c), with the same weights,
taking turns; the picture shows the forms beside their speed.
"""

import functools

from common import Worker, arguments, print_table, save, take_turns

TITLES = {
    "a": "(a) C branches, summed",
    "b": "(b) C branches, concatenated",
    "c": "(c) one grouped convolution",
}


def block(form, batch):
    """The passes of the second block of ResNeXt-50's first stage, built alone."""
    import keras
    import tensorflow as tf

    from keras_resnext import ResNetConfig
    from keras_resnext.models.blocks import Place, residual_block
    from keras_resnext.models.keras_layers import KerasLayers

    config = ResNetConfig(cardinality=32, width_per_group=4, form=form)
    image = keras.Input((56, 56, 256))
    model = keras.Model(image, residual_block(KerasLayers(config), image, Place("block", 64)))
    x = tf.random.normal((batch, 56, 56, 256))

    @tf.function
    def forward():
        return tf.reduce_sum(model(x))

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(model(x, training=True))
        return [tf.reduce_sum(g) for g in tape.gradient(loss, [x, *model.trainable_variables])]

    steps = {
        "forward": lambda: forward().numpy(),
        "forward and backward": lambda: [g.numpy() for g in both()],
    }
    for step in steps.values():
        step()
    return steps


def main():
    options = arguments(__doc__, batch=8)
    makers = {form: functools.partial(Worker, block, (form, options.batch)) for form in TITLES}
    workers = take_turns(makers, options.rounds)
    rows = [
        {"form": form, "pass": label, "milliseconds": 1e3 * worker.seconds(label)}
        for form, worker in workers.items()
        for label in worker.times
    ]
    print_table(
        f"One block of ResNeXt-50, 56x56x256, batch {options.batch}, float32",
        ("form", "pass", "ms"),
        [(TITLES[row["form"]], row["pass"], row["milliseconds"]) for row in rows],
    )
    save(options, "forms", rows)
    picture(options.output / f"forms-{options.name}.png", rows, options.batch)


def picture(path, rows, batch):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (*drawings, chart) = plt.subplots(
        1, 4, figsize=(14, 4.6), width_ratios=(1.15, 1.15, 0.6, 1.1), layout="constrained"
    )
    for axes, form in zip(drawings, "abc", strict=True):
        DRAWINGS[form](axes)
        axes.set_title(TITLES[form], fontsize=12)
        axes.axis("off")
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    for index, label in enumerate(passes):
        own = [row for row in rows if row["pass"] == label]
        places = [i + (index - 0.5) * 0.38 for i in range(len(own))]
        bars = chart.bar(places, [row["milliseconds"] for row in own], 0.36, label=label)
        chart.bar_label(bars, fmt="%.0f", fontsize=10)
    chart.set_xticks(range(3), ["(a)", "(b)", "(c)"], fontsize=11)
    chart.set_ylabel("milliseconds (less is better)")
    chart.set_xlabel("form")
    chart.set_title(f"Time of a block, batch {batch}", fontsize=12)
    chart.margins(y=0.15)
    chart.legend(fontsize=10)
    figure.suptitle("The three equivalent forms of a ResNeXt block: 256 channels, C = 32, d = 4")
    figure.savefig(path, dpi=110)
    print(f"written: {path}")


def _box(axes, x, y, text, width=0.2):
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=8.5,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": "#e8eef7", "edgecolor": "#33507a"},
    )


def _line(axes, *points):
    axes.plot(*zip(*points, strict=True), color="#555555", linewidth=1, zorder=0)


BRANCHES = (0.12, 0.4, 0.82)  # of 32: the first, the second, dots, the last


def _branches(axes, rows, joined_at):
    """The branches of (a) and (b): a column of boxes each, from one point to another."""
    _line(axes, (0.47, 1.05), (0.47, 0.95))
    for x in BRANCHES:
        _line(axes, (0.47, 0.95), (x, 0.86), (x, joined_at + 0.07), (0.47, joined_at))
        for y, text in rows:
            _box(axes, x, y, text)
    axes.text(0.61, 0.6, "32\npaths\n...", ha="center", va="center", fontsize=9)


def _sum(axes, y, entry=1.05):
    """The shortcut, and the sum it ends in."""
    axes.text(
        0.47,
        y,
        "+",
        ha="center",
        va="center",
        fontsize=12,
        bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white"},
    )
    _line(axes, (0.47, entry - 0.03), (1.03, entry - 0.03), (1.03, y), (0.47, y))
    _line(axes, (0.47, y), (0.47, y - 0.12))
    axes.set_xlim(-0.05, 1.1)
    axes.set_ylim(-0.15, 1.1)


def _draw_a(axes):
    rows = [(0.8, "1x1\n256, 4"), (0.58, "3x3\n4, 4"), (0.36, "1x1\n4, 256")]
    _branches(axes, rows, joined_at=0.18)
    _box(axes, 0.47, 0.18, "sum")
    _line(axes, (0.47, 0.18), (0.47, 0.02))
    _sum(axes, 0.02)


def _draw_b(axes):
    _branches(axes, [(0.8, "1x1\n256, 4"), (0.58, "3x3\n4, 4")], joined_at=0.38)
    _box(axes, 0.47, 0.38, "concatenate")
    _box(axes, 0.47, 0.19, "1x1\n128, 256")
    _line(axes, (0.47, 0.38), (0.47, 0.02))
    _sum(axes, 0.02)


def _draw_c(axes):
    for y, text in (
        (0.8, "1x1\n256, 128"),
        (0.52, "3x3\n32 groups\n128, 128"),
        (0.24, "1x1\n128, 256"),
    ):
        _box(axes, 0.47, y, text)
    _line(axes, (0.47, 1.05), (0.47, 0.02))
    _sum(axes, 0.02)


DRAWINGS = {"a": _draw_a, "b": _draw_b, "c": _draw_c}


if __name__ == "__main__":
    main()
