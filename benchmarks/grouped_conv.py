"""One grouped 3x3 convolution: every formulation, forward and backward, against the peers.

    python benchmarks/grouped_conv.py                    # TensorFlow, with and without oneDNN
    python benchmarks/grouped_conv.py --stacks jax torch # where they are installed

On a GPU, under JAX without TensorFlow:

    KERAS_BACKEND=jax python benchmarks/grouped_conv.py --stacks jax torch --name h100 --batch 64
"""

import functools

from common import Worker, arguments, bars, print_table, save, take_turns

SHAPES = ((56, 128), (28, 256), (14, 512), (7, 1024))
# What a stack is: the Keras backend and the environment that it is started with.
STACKS = {
    "tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "tensorflow-without-onednn": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "jax": {"KERAS_BACKEND": "jax"},
    "torch": {"KERAS_BACKEND": "torch"},
}
FORMULATIONS = ("auto", "native", "merged", "split", "dense")
NAMES = {"keras": "Keras Conv2D", "torch.nn.Conv2d": "torch.nn.Conv2d"}


def every_layer(stack, *case):
    """`{"peer, direction": step}` of all that can be measured in this stack."""
    layers = [*FORMULATIONS, "keras", *(["torch.nn.Conv2d"] if stack == "torch" else [])]
    steps = {}
    for layer in layers:
        for direction in ("forward", "backward"):
            make = torch_layer if layer == "torch.nn.Conv2d" else keras_layer
            try:
                steps[layer, direction] = make(layer, *case, direction == "backward")
            except Exception as error:
                print(f"{stack}: {layer}, {direction}: {str(error)[:120]}", flush=True)
    return steps


def keras_layer(layer, size, channels, groups, batch, dtype, backward):
    """The step of Keras's own Conv2D (`layer="keras"`) or of ours in one formulation."""
    import keras
    import numpy as np

    from keras_resnext.layers import GroupedConv2D

    keras.config.set_dtype_policy(dtype if dtype == "float32" else f"mixed_{dtype}")
    settings = {"padding": "same", "groups": groups, "use_bias": False}
    if layer == "keras":
        conv = keras.layers.Conv2D(channels, 3, **settings)
    else:
        conv = GroupedConv2D(channels, 3, formulation=layer, **settings)
    x = np.random.RandomState(0).normal(size=(batch, size, size, channels))
    x = keras.ops.cast(keras.ops.convert_to_tensor(x.astype("float32")), conv.compute_dtype)
    conv.build(x.shape)
    make = {"tensorflow": _tensorflow_step, "jax": _jax_step, "torch": _torch_step}
    step = make[keras.backend.backend()](conv, x, backward)
    step()
    return step


def _tensorflow_step(conv, x, backward):
    import tensorflow as tf

    @tf.function
    def run(x):
        if not backward:
            return conv(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = conv(x)
        return tape.gradient(y, [x, conv.kernel.value])

    return lambda: tf.nest.map_structure(lambda t: t[(0,) * len(t.shape)].numpy(), run(x))


def _jax_step(conv, x, backward):
    import jax

    def forward(kernel, x):
        return conv.convolution_op(x, kernel)

    def both(kernel, x):
        y, vjp = jax.vjp(forward, kernel, x)
        return vjp(y)

    run = jax.jit(both if backward else forward)
    return lambda: jax.block_until_ready(run(conv.kernel.value, x))


def _torch_step(conv, x, backward):
    import torch

    x.requires_grad_(backward)

    def run():
        y = conv(x)
        if backward:
            torch.autograd.grad(y, [x, conv.kernel.value], torch.ones_like(y))
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def torch_layer(layer, size, channels, groups, batch, dtype, backward):
    """The step of `torch.nn.Conv2d` in the channels_last layout."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, dtype)
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
    conv = conv.to(device, dtype, memory_format=torch.channels_last)
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last).requires_grad_(backward)

    def run():
        y = conv(x)
        if backward:
            torch.autograd.grad(y, [x, conv.weight], torch.ones_like(y))
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return run


def main():
    options = arguments(
        __doc__,
        stacks=["tensorflow", "tensorflow-without-onednn"],
        sizes=[56, 28, 14, 7],
        groups=32,
        batch=8,
        dtypes=["float32"],
    )
    rows = []
    for stack in options.stacks:
        for dtype in options.dtypes:
            for size, channels in (shape for shape in SHAPES if shape[0] in options.sizes):
                shape = (size, channels, options.groups, options.batch, dtype)
                rows += measure(stack, dtype, size, channels, shape, options.rounds)
    save(options, "grouped_conv", rows)
    groups = {}
    for row in rows:
        group = f"{row['stack']}, {row['dtype']}, {row['size']}x{row['size']}x{row['channels']}"
        if row["backward_ms"]:
            groups.setdefault(group, {})[row["peer"]] = 1000 / row["backward_ms"]
    title = f"3x3 convolution of {options.groups} groups, batch {options.batch}"
    bars(
        options.output / f"grouped_conv-{options.name}.png",
        f"{title}: forward and backward passes a second (more is better)",
        "passes a second",
        groups,
    )


def measure(stack, dtype, size, channels, case, rounds):
    maker = functools.partial(
        Worker, every_layer, (stack, *case), STACKS[stack], least=3, budget=0.3
    )
    worker = take_turns({stack: maker}, rounds).get(stack)
    if worker is None:
        return []
    rows = [
        {
            "stack": stack,
            "dtype": dtype,
            "size": size,
            "channels": channels,
            "peer": NAMES.get(layer, f"ours, {layer}"),
            **{
                f"{way}_ms": 1e3 * worker.seconds((layer, way))
                if (layer, way) in worker.times
                else None
                for way in ("forward", "backward")
            },
        }
        for layer in dict.fromkeys(layer for layer, _ in worker.times)
    ]
    theirs = next((r["backward_ms"] for r in rows if r["peer"] == "Keras Conv2D"), None)
    print_table(
        f"{stack}, {dtype}, {size}x{size}x{channels}",
        ("peer", "forward ms", "forward and backward ms", "times faster than Keras Conv2D"),
        [
            (
                row["peer"],
                row["forward_ms"],
                row["backward_ms"] or "no gradient",
                theirs / row["backward_ms"] if theirs and row["backward_ms"] else "",
            )
            for row in rows
        ],
    )
    return rows


if __name__ == "__main__":
    main()
