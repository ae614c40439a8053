"""Whole networks: training and inference images a second, ours and the peers', taking turns.

    python benchmarks/models.py                                  # float32 and bfloat16 training
    python benchmarks/models.py --modes inference
    python benchmarks/models.py --modes build --models all          # seconds to build each
    python benchmarks/models.py --models ResNet50 AssembleResNet50 --peers ours
    python benchmarks/models.py --models ResNeXt101 ResNet101 --peers ours

The dense 3x3 convolution rate of the machine is measured in the same turns: the network's
multiply-adds at that rate are the ceiling. On a GPU, under JAX without TensorFlow:

    KERAS_BACKEND=jax python benchmarks/models.py --name h100 --batch 256 \\
        --dtypes bfloat16 float16 --peers ours torch torch-compiled dense-convolution
"""

import functools

from common import Worker, arguments, bars, print_table, save, take_turns

TIMM_NAMES = {
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNeXt50": "resnext50_32x4d",
    "ResNeXt101": "resnext101_32x4d",
}


def keras_model(peer, name, batch, dtype, mode):
    """The step of one of our networks, of the same with Keras's own layers, or of Keras's own."""
    import keras
    import numpy as np

    keras.config.set_dtype_policy(dtype if dtype == "float32" else f"mixed_{dtype}")
    model = KERAS_MODELS[peer](name)
    random = np.random.RandomState(0)
    x = keras.ops.convert_to_tensor(random.normal(size=(batch, 224, 224, 3)).astype("float32"))
    if mode == "inference":
        model.predict_on_batch(x)
        return {"step": lambda: model.predict_on_batch(x)}
    y = keras.ops.convert_to_tensor(random.randint(0, 1000, batch))
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for _ in range(1 if peer == "keras-layers" else 3):
        model.train_on_batch(x, y)
    return {"step": lambda: model.train_on_batch(x, y)}


def _ours(name):
    from keras_resnext import create_model

    return create_model(name, classifier_activation=None)


def _keras_layers(name):
    """Our network with Keras's convolution and batch norm instead of ours."""
    import keras

    kinds = {"Conv2D": keras.layers.Conv2D, "BatchNormalization": keras.layers.BatchNormalization}

    def own(layer):
        kind = kinds.get(type(layer).__name__)
        if kind is None:
            return type(layer).from_config(layer.get_config())
        config = layer.get_config()
        if config.pop("formulation", None):
            config["padding"] = "same"
        return kind.from_config(config)

    return keras.models.clone_model(_ours(name), clone_function=own)


def _keras_applications(name):
    import keras

    return getattr(keras.applications, name)(weights=None, classifier_activation=None)


KERAS_MODELS = {
    "ours": _ours,
    "keras-layers": _keras_layers,
    "keras.applications": _keras_applications,
}


def torch_model(compiled, name, batch, dtype, mode):
    """The step of timm's network in the channels_last layout, under autocast."""
    import torch

    timm = _import_timm(torch)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = timm.create_model(TIMM_NAMES[name]).to(device, memory_format=torch.channels_last)
    model.train(mode == "training")
    run = torch.compile(model) if compiled else model
    x = torch.randn(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 1000, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    cast = functools.partial(
        torch.autocast, device, getattr(torch, dtype), enabled=dtype != "float32"
    )

    def infer():
        with torch.inference_mode(), cast():
            return run(x).float().cpu()

    def train():
        with cast():
            loss = torch.nn.functional.cross_entropy(run(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    step = train if mode == "training" else infer
    for _ in range(3):
        step()
    return {"step": step}


def _import_timm(torch):
    """Import timm, where torchvision was not built for this torch too: it only needs names."""
    try:
        import timm
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor a) -> Tensor")
        library.define("qnms(Tensor a) -> Tensor")
        _import_timm.keep = library
        import timm
    return timm


def dense_convolution(batch, dtype):
    """The step of one dense 3x3 convolution, forward; the machine's best rate by experience."""
    import keras
    import numpy as np

    x = np.random.RandomState(0).normal(size=(batch, 28, 28, 256)).astype("float32")
    kernel = np.random.RandomState(1).normal(size=(3, 3, 256, 256)).astype("float32")
    x, kernel = (keras.ops.cast(keras.ops.convert_to_tensor(v), dtype) for v in (x, kernel))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        run = tf.function(lambda: tf.nn.conv2d(x, kernel, 1, "SAME")[0, 0, 0, 0])
        step = lambda: run().numpy()  # noqa: E731
    else:
        import jax

        run = jax.jit(lambda x, k: keras.ops.conv(x, k, 1, "same"))
        step = lambda: jax.block_until_ready(run(x, kernel))  # noqa: E731
    for _ in range(3):
        step()
    return {"step": step}


def building(names):
    """The steps that build each network, after another has warmed Keras up."""
    from keras_resnext import create_model

    create_model("ResNet18")
    return {name: functools.partial(create_model, name) for name in names}


def compare_builds(options):
    from keras_resnext.models import variants

    names = variants.list_models() if options.models == ["all"] else options.models
    maker = functools.partial(Worker, building, (names,), least=1, budget=0.0)
    worker = take_turns({"ours": maker}, options.rounds)["ours"]
    rows = [{"model": name, "mode": "build", "seconds": worker.seconds(name)} for name in names]
    rows.sort(key=lambda row: -row["seconds"])
    print_table(
        "Building, seconds",
        ("model", "seconds"),
        [(row["model"], row["seconds"]) for row in rows],
    )
    return rows


def dense_macs(batch):
    return batch * 28 * 28 * 9 * 256 * 256


def maker(peer, name, batch, dtype, mode):
    """A function that starts the worker of one peer."""
    if peer == "dense-convolution":
        return functools.partial(Worker, dense_convolution, (batch, dtype), least=10, budget=1.0)
    if peer in ("torch", "torch-compiled"):
        args = (peer == "torch-compiled", name, batch, dtype, mode)
        return functools.partial(Worker, torch_model, args)
    slow = {"least": 1, "budget": 0.0} if peer == "keras-layers" else {}
    return functools.partial(Worker, keras_model, (peer, name, batch, dtype, mode), **slow)


def compare(options, dtype, mode):
    makers = {}
    for name in options.models:
        for peer in options.peers:
            if peer == "keras.applications" and "X" in name:
                continue
            key = (name, peer) if peer != "dense-convolution" else ("", peer)
            makers[key] = maker(peer, name, options.batch, dtype, mode)
    workers = take_turns(makers, options.rounds)
    dense = workers.pop(("", "dense-convolution"), None)
    rate = dense and dense_macs(options.batch) / dense.seconds()
    rows = [_row(options, key, worker, dtype, mode, rate) for key, worker in workers.items()]
    best = {
        name: max(row["images_per_second"] for row in rows if row["model"] == name)
        for name, _ in workers
    }
    print_table(
        f"{mode}, {dtype}, batch {options.batch}, dense 3x3 convolution "
        f"{2 * rate / 1e9 if rate else 0:.0f} GFLOP/s",
        ("model", "peer", "img/s", "of the best", "of the ceiling", "compile s"),
        [
            (
                row["model"],
                row["peer"],
                row["images_per_second"],
                row["images_per_second"] / best[row["model"]],
                row["of_ceiling"] or "",
                row["warm_up_seconds"],
            )
            for row in rows
        ],
    )
    return rows


def _row(options, key, worker, dtype, mode, rate):
    from keras_resnext.models import variants

    name, peer = key
    passes = 3 if mode == "training" else 1
    images = options.batch / worker.seconds()
    needed = variants.get(name).gmacs * 1e9 * passes
    return {
        "model": name,
        "peer": peer,
        "mode": mode,
        "dtype": dtype,
        "batch": options.batch,
        "images_per_second": images,
        "spread": [options.batch / t for t in sorted(worker.times["step"])],
        "warm_up_seconds": worker.warm_up,
        "dense_gflops": 2 * rate / 1e9 if rate else None,
        "of_ceiling": images * needed / rate if rate else None,
    }


def main():
    options = arguments(
        __doc__,
        models=["ResNeXt50"],
        peers=["ours", "torch", "torch-compiled", "dense-convolution"],
        dtypes=["float32", "bfloat16"],
        modes=["training"],
        batch=16,
    )
    modes = [mode for mode in options.modes if mode != "build"]
    if modes != options.modes:
        save(options, "models-build", compare_builds(options))
    rows = [
        row for mode in modes for dtype in options.dtypes for row in compare(options, dtype, mode)
    ]
    if not rows:
        return
    save(options, "models", rows)
    groups = {}
    for row in rows:
        group = f"{row['model']}, {row['mode']}, {row['dtype']}"
        groups.setdefault(group, {})[row["peer"]] = row["images_per_second"]
    bars(
        options.output / f"models-{options.name}.png",
        f"Images a second, 224 px, batch {options.batch} (more is better)",
        "images a second",
        groups,
    )


if __name__ == "__main__":
    main()
