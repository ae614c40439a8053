"""What the benchmarks share: workers that take turns, medians, tables, JSON and the machine."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import time

import keras_resnext  # noqa: F401  before TensorFlow, so that every peer on it uses oneDNN

RESULTS = pathlib.Path(__file__).parent / "results"


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The examples of a docstring a line each, and every default."""


OPTIONS = {
    "batch": "images of a step",
    "data": "as in `keras-resnext train`",
    "dtypes": "that are computed in",
    "epochs": "of each training",
    "groups": "of the convolution",
    "images": "that are made",
    "model": "as `keras-resnext list` names it",
    "models": "as `keras-resnext list` names them; in building `all` too",
    "modes": "training, inference or build",
    "pairs": "of network and data",
    "peers": "that take turns",
    "policies": "of precision, rematerialized too",
    "recipes": "that are compared with plain Keras",
    "sizes": "of the feature maps, pixels",
    "small": "images of 32x32 that are made",
    "stacks": "backends, and TensorFlow without oneDNN",
    "study": "what is compared",
    "test": "images that are tested on",
    "train": "images that are trained on",
    "workers": "of torchvision's loader",
}


def arguments(description, choices=None, rounds="turns that every peer gets", **defaults):
    """A parser with the options of every benchmark, and those of `OPTIONS` that it has defaults of.

    `choices` has what some of them may be.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=_Help)
    parser.add_argument("--rounds", type=int, default=5, help=rounds)
    parser.add_argument("--name", default="cpu", help="names the result files")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, help="their folder")
    for name, value in defaults.items():
        many = isinstance(value, list)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value[0] if many else value),
            nargs="+" if many else None,
            default=value,
            choices=(choices or {}).get(name),
            help=OPTIONS[name],
        )
    return parser.parse_args()


def seconds(step, least=3, budget=4.0):
    """The median time of `step()`, of at least `least` runs and as many as the budget holds.

    Runs beside which other processes had more than a little of the processors do not count, unless
    there are no others.
    """
    times, undisturbed = [], []
    while len(undisturbed) < least or sum(times) < budget:
        start, others = time.perf_counter(), _others()
        step()
        times.append(time.perf_counter() - start)
        if _others() - others < DISTURBANCE * times[-1] * os.cpu_count():
            undisturbed.append(times[-1])
        if sum(times) > 10 * budget:
            break
    return statistics.median(undisturbed or times)


# What share of the processors others may have; Linux counts in hundredths of a second.
DISTURBANCE = 0.05


def _others():
    """The seconds that the processors have worked for other processes, as far as it is known."""
    try:
        columns = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, columns[:8])
    own = os.times()
    busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return busy - own.user - own.system


class Worker:
    """A process of its own for one peer, with its own framework, that measures when asked.

    The peers of a comparison take turns, so that a slow phase of the machine meets them all;
    while one measures, the others sleep. `make(*args)` runs in the process and returns the
    functions to time, `{label: step}`, after they have compiled and warmed up. A peer that starts
    processes itself must not be a `daemon`, which would die with us.
    """

    def __init__(self, make, args=(), environment=(), least=3, budget=4.0, daemon=True):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        with _environment({"TF_CPP_MIN_LOG_LEVEL": "2", **dict(environment)}):
            self.process = context.Process(
                target=_serve, args=(theirs, make, args, least, budget), daemon=daemon
            )
            self.process.start()
        theirs.close()
        self.warm_up, labels = self._receive()
        self.times = {label: [] for label in labels}

    def measure(self):
        self._ask("measure")
        for label, time_ in self._receive().items():
            self.times[label].append(time_)

    def seconds(self, label="step"):
        return statistics.median(self.times[label])

    def memory(self):
        """The most that the process has held, in bytes."""
        self._ask("memory")
        return self._receive()

    def close(self):
        self._ask("stop")
        self.process.join()

    def _ask(self, what):
        # Of a dead process is told when it should answer.
        with contextlib.suppress(ConnectionError):
            self.pipe.send(what)

    def _receive(self):
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise RuntimeError(
                f"its process died, with exit code {self.process.exitcode}"
            ) from None
        if kind == "error":
            raise RuntimeError(value)
        return value


def _serve(pipe, make, args, least, budget):
    try:
        start = time.perf_counter()
        steps = make(*args)
        pipe.send(("ready", (time.perf_counter() - start, list(steps))))
        while (asked := pipe.recv()) != "stop":
            if asked == "memory":
                pipe.send(("memory", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
            else:
                pipe.send(("times", {k: seconds(step, least, budget) for k, step in steps.items()}))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))


@contextlib.contextmanager
def _environment(values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def take_turns(makers, rounds):
    """Start a worker for each of `{name: function that returns a Worker}` and let them measure.

    Returns:
        `{name: worker}` of those that could be run; why one could not is printed.
    """
    workers = {}
    for name, maker in makers.items():
        try:
            workers[name] = maker()
        except RuntimeError as error:
            _tell(name, error)
    for _ in range(rounds):
        for name, worker in list(workers.items()):
            try:
                worker.measure()
            except RuntimeError as error:
                _tell(name, error)
                del workers[name]
    for worker in workers.values():
        worker.peak = worker.memory()
        worker.close()
    return workers


def _tell(name, error):
    print(f"{name} cannot be measured: {str(error)[:300]}", flush=True)


def write_part(source, image_size, path, train, test=None):
    """Write a part of a data set as an .npz; of each class the same share.

    Args:
        source: As `load_dataset` takes it.
        image_size: Pixels.
        path: Of the file.
        train: How many training images.
        test: How many test images. Default: all.
    """
    import numpy as np

    from keras_resnext import load_dataset

    whole = load_dataset(source, image_size)
    arrays = {"class_names": np.array(whole.class_names)}
    for name, part, count in (("train", whole.train, train), ("test", whole.test, test)):
        arrays[f"x_{name}"], arrays[f"y_{name}"] = _arrays(part, count)
    np.savez(path, **arrays)


def _arrays(part, count):
    import numpy as np
    from PIL import Image

    from keras_resnext.data.parts import labels_of, stratified_split, take

    if count is not None and count < len(part):
        part = take(part, stratified_split(labels_of(part), count / len(part), seed=0)[1])
    images = part.images
    if isinstance(images, tuple):
        images = np.stack([np.asarray(Image.open(name).convert("RGB")) for name in images])
    return images, labels_of(part)


def machine():
    """What the numbers were measured on."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        model += f" ({', '.join(flag for flag in wanted if flag in flags.split())})"
    versions = {}
    for package in ("keras", "tensorflow", "jax", "torch", "timm", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.date.today().isoformat(),
    }


def save(options, benchmark, rows):
    """Write the rows and the machine to `results/<benchmark>-<name>.json`."""
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{benchmark}-{options.name}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print(f"written: {path}")
    return path


def print_table(title, columns, rows):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=140).print(table)


def bars(path, title, unit, groups):
    """Draw `{group: {label: value}}` as horizontal bars, one panel a group; nothing of none."""
    if not groups:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest = max(map(len, groups.values()))
    figure = Figure(figsize=(9, 0.9 + len(groups) * (0.55 + 0.27 * longest)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    colors = {}
    for axes, (group, values) in zip(
        figure.subplots(len(groups), squeeze=False)[:, 0], groups.items(), strict=True
    ):
        labels = list(values)[::-1]
        for label in list(values):
            colors.setdefault(label, f"C{len(colors) % 10}")
        rates = [values[k] for k in labels]
        drawn = axes.barh(labels, rates, color=[colors[k] for k in labels])
        axes.bar_label(drawn, [f" {v:,.0f}" if v >= 1000 else f" {v:.3g}" for v in rates])
        axes.set_title(group, fontsize=10, loc="left")
        axes.set_xlabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
    figure.savefig(path, dpi=110)
    print(f"written: {path}")
