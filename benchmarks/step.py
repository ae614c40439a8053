"""Where the time of a training step goes, operation by operation.

    python benchmarks/step.py

TensorFlow's profiler, with one operation at a time so that none takes another's cores; each
precision in a process of its own. The second table has how fast each kind of convolution is
forwards.
"""

import collections
import functools
import multiprocessing
import os
import pathlib
import re
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor

from common import arguments, print_table, save
from models import keras_model

KINDS = {
    "Conv2D": "convolutions",
    "Conv2DBackpropInput": "their gradients by the input",
    "Conv2DBackpropFilter": "their gradients by the kernel",
    "MatMul": "their gradients by the kernel",
    "FusedBatchNormV3": "batch norm, and the ReLU right after it",
    "FusedBatchNormEx": "batch norm, and the ReLU right after it",
    "FusedBatchNormGradV3": "gradient of batch norm",
    "ReluGrad": "gradient of ReLU",
    "Relu": "sums, and the ReLU after them",
    "AddV2": "sums, and the ReLU after them",
    "AddN": "sums, and the ReLU after them",
}
REST = "optimizer, moving averages, padding, casts"
OPERATION = re.compile(r"(?P<path>[^ :]+):(?:_Mkl(?:Native)?)?(?P<kind>\w+)")
FORWARD = re.compile(r".*/(?P<layer>\w+?)(?:_1)?/Conv2D")


def profiled(model, batch, dtype, rounds):
    """A step's milliseconds by kind of operation, and by kind of convolution with multiply-adds."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import tensorflow as tf

    from keras_resnext import create_model

    tf.config.threading.set_inter_op_parallelism_threads(1)
    step = keras_model("ours", model, batch, dtype, "training")["step"]
    layers = {layer.name: layer for layer in create_model(model).layers}
    kinds, convolutions = collections.defaultdict(list), collections.defaultdict(list)
    for _ in range(rounds):
        by_kind, by_convolution = collections.Counter(), collections.Counter()
        for path, kind, milliseconds in _trace(step):
            by_kind[KINDS.get(kind, REST)] += milliseconds
            forward = FORWARD.fullmatch(path)
            if kind == "Conv2D" and forward:
                by_convolution[_described(layers[forward["layer"]])] += milliseconds
        for times, found in ((kinds, by_kind), (convolutions, by_convolution)):
            for name, milliseconds in found.items():
                times[name].append(milliseconds)
    macs = collections.Counter()
    for layer in layers.values():
        if len(getattr(getattr(layer, "kernel", None), "shape", ())) == 4:
            macs[_described(layer)] += (
                batch
                * layer.kernel.shape.num_elements()
                * (layer.output.shape[1] * layer.output.shape[2])
            )
    return (
        {name: statistics.median(times) for name, times in kinds.items()},
        {name: (statistics.median(times), macs[name]) for name, times in convolutions.items()},
    )


def _trace(step):
    """Path, kind and milliseconds of each operation that `step()` runs."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            step()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = XSpace.FromString(path.read_bytes())
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = OPERATION.fullmatch(plane.event_metadata[event.metadata_id].name)
            if name:
                yield name["path"], name["kind"], event.duration_ps / 1e9


def _described(layer):
    height, width, channels, _ = layer.kernel.shape
    grouped = f", groups of {channels} channels" if layer.groups > 1 else ""
    strided = f", stride {layer.strides[0]}" if layer.strides[0] > 1 else ""
    return f"{height}x{width}{grouped}{strided}"


def main():
    options = arguments(__doc__, model="ResNeXt50", batch=16, dtypes=["float32", "bfloat16"])
    found = {}
    for dtype in options.dtypes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            asked = functools.partial(profiled, options.model, options.batch, dtype, options.rounds)
            found[dtype] = process.submit(asked).result()
    kinds = [*dict.fromkeys(KINDS.values()), REST]
    convolutions = list(found[options.dtypes[0]][1])
    rows = [
        {"operations": kind, **{d: found[d][0].get(kind, 0.0) for d in options.dtypes}}
        for kind in kinds
    ]
    rates = [
        {
            "convolution": name,
            "gigamacs": found[options.dtypes[0]][1][name][1] / 1e9,
            **{d: 2 * found[d][1][name][1] / found[d][1][name][0] / 1e6 for d in options.dtypes},
        }
        for name in convolutions
    ]
    save(options, "step", {"milliseconds": rows, "gigaflops_forwards": rates})
    for title, table in (
        (f"{options.model}, batch {options.batch}, 224 px: milliseconds of a training step", rows),
        ("Convolutions forwards, GFLOP/s", rates),
    ):
        print_table(title, list(table[0]), [tuple(row.values()) for row in table])


if __name__ == "__main__":
    main()
