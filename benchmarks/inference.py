"""Inference: our networks as they are, folded and exported, against PyTorch's best, taking turns.

    python benchmarks/inference.py                          # float32, bfloat16 and int8
    python benchmarks/inference.py --dtypes bfloat16        # one of them, if memory is short
    python benchmarks/inference.py --peers folded openvino torch-compiled
    python benchmarks/inference.py --batch 1 --name cpu-1

TensorFlow runs one operation at a time, as in `keras-resnext predict`; PyTorch does so by itself.
Weights are random, so int8 is measured for its speed alone. `pip install -e '.[export,peers]'`
brings OpenVINO, PyTorch and timm; without them they are left out. One network's results are a
share of the fastest of PyTorch's in the same precision (in float32 for int8).
"""

import functools
import json
import pathlib
import tempfile

from common import Worker, arguments, bars, print_table, save, take_turns
from models import TIMM_NAMES, _import_timm

OURS = ("keras", "folded", "savedmodel", "openvino", "onnx", "litert")
SIZE = 224


def ours(name, form, batch, dtype):
    """The step of one of our networks in one of the forms that `keras-resnext benchmark` has."""
    import numpy as np

    from keras_resnext import create_model
    from keras_resnext.evaluation.throughput import make_runner, one_operation_at_a_time

    one_operation_at_a_time()
    model = create_model(name, classifier_activation=None)
    _train_statistics(model)
    x = np.random.RandomState(0).normal(size=(batch, SIZE, SIZE, 3)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        run = make_runner(model, form, dtype, pathlib.Path(folder))
        for _ in range(3):
            run(x)
    return {"step": lambda: run(x)}


def _train_statistics(model):
    """Batch norms of zeros and ones fold into convolutions without a bias worth the name."""
    import numpy as np

    random = np.random.RandomState(0)
    for variable in model.weights:
        if variable.path.endswith(("moving_mean", "beta")):
            variable.assign(random.normal(0, 0.1, variable.shape))


def torch_model(kind, name, batch, dtype):
    """The step of timm's network, channels_last, in inference mode."""
    import torch

    timm = _import_timm(torch)
    model = timm.create_model(TIMM_NAMES[name]).eval().to(memory_format=torch.channels_last)
    x = torch.randn(batch, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    cast = functools.partial(
        torch.autocast, "cpu", torch.bfloat16, enabled=dtype == "bfloat16", cache_enabled=False
    )
    with torch.inference_mode(), cast():
        run = TORCH_KINDS[kind](model, x)
        for _ in range(3):
            run(x)

    def step():
        with torch.inference_mode(), cast():
            return run(x).float().numpy()

    return {"step": step}


def _eager(model, x):
    return model


def _scripted(model, x):
    """TorchScript, frozen: constants for weights, batch norm folded, oneDNN's fusions."""
    import torch

    traced = torch.jit.trace(model, x, check_trace=False)
    return torch.jit.optimize_for_inference(torch.jit.freeze(traced))


def _compiled(model, x):
    """TorchInductor with freezing: weights laid out ahead, batch norm folded."""
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return torch.compile(model)


TORCH_KINDS = {"torch": _eager, "torch-script": _scripted, "torch-compiled": _compiled}


def maker(peer, name, batch, dtype):
    """A function that starts the worker of one peer."""
    if peer in TORCH_KINDS:
        return functools.partial(Worker, torch_model, (peer, name, batch, dtype))
    return functools.partial(Worker, ours, (name, peer, batch, dtype))


def compare(options, name, dtype):
    """One precision at a time, or the networks would not fit the memory together."""
    makers = {
        (peer, precision): maker(peer, name, options.batch, precision)
        for peer in options.peers
        for precision in BESIDE.get(dtype, (dtype,))
        if {dtype, precision} <= set(PRECISIONS[peer])
    }
    workers = take_turns(makers, options.rounds)
    rows = [
        {
            "model": name,
            "peer": f"{peer}, {precision}" if dtype in BESIDE else peer,
            "dtype": dtype,
            "batch": options.batch,
            "images_per_second": options.batch / worker.seconds(),
            "spread": [options.batch / t for t in sorted(worker.times["step"])],
            "warm_up_seconds": worker.warm_up,
        }
        for (peer, precision), worker in workers.items()
    ]
    best = max(
        (row["images_per_second"] for row in rows if row["peer"] in TORCH_KINDS), default=None
    )
    for row in rows:
        row["of_torch"] = best and row["images_per_second"] / best
    columns = ("peer", "images_per_second", "of_torch", "warm_up_seconds")
    print_table(
        f"{name}, inference, {dtype}, batch {options.batch}",
        ("peer", "img/s", "of PyTorch's best", "compile s"),
        [[row[column] or "" for column in columns] for row in rows],
    )
    return rows


PRECISIONS = {peer: ("float32", "bfloat16") for peer in (*OURS, *TORCH_KINDS)} | {
    "openvino": ("float32", "bfloat16", "int8"),
    "onnx": ("float32", "int8"),
    "litert": ("float32", "int8"),
}

# int8 is measured beside the float32 of the same peer.
BESIDE = {"int8": ("float32", "int8")}


def main():
    options = arguments(
        __doc__,
        models=["ResNeXt50"],
        peers=["keras", "folded", "savedmodel", "openvino", *TORCH_KINDS],
        dtypes=["float32", "bfloat16", "int8"],
        batch=16,
    )
    for dtype in options.dtypes:
        rows = [row for name in options.models for row in compare(options, name, dtype)]
        save(options, f"inference-{dtype}", rows)
    draw(options)


def draw(options):
    """All precisions that were measured under this name, now or before."""
    groups = {}
    for path in sorted(options.output.glob(f"inference-*-{options.name}.json")):
        for row in json.loads(path.read_text())["rows"]:
            group = groups.setdefault(f"{row['model']}, {row['dtype']}", {})
            group[row["peer"]] = row["images_per_second"]
    bars(
        options.output / f"inference-{options.name}.png",
        f"Inference, {SIZE} px, batch {options.batch} (more is better)",
        "images a second",
        groups,
    )


if __name__ == "__main__":
    main()
