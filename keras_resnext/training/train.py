"""A training run from plan to summary, and runs by names alone, which can be resumed."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
from rich.console import Console

from keras_resnext.data.datasets import Dataset, absolute_source, load_dataset
from keras_resnext.data.undecodable import naming_undecodable
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.training.build import Built, build, fitting, network_for
from keras_resnext.training.distribution import distributed, synchronize, worker
from keras_resnext.training.loop import loop
from keras_resnext.training.plan import Plan, plan
from keras_resnext.training.recipe import Recipe, from_fields
from keras_resnext.training.run_folder import (
    CONFIG,
    SKIPPED,
    check_resumable,
    make_folder,
    read_json,
    write_json,
    write_rows,
)

# A `Session`'s key in config.json.
KEY = "session"


def train(
    model: keras.Model,
    dataset: Dataset,
    recipe: Recipe | str = "default",
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    record: Mapping | None = None,
    console: Console | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Train a classifier as a recipe says, show its progress, and write the run's folder.

    The folder holds model.keras (of the last epoch) and best.keras (of the best), history.csv,
    history.png and TensorBoard's events/ (updated during training), checkpoint.safetensors to
    resume from, config.json (the settings) and summary.json (the results), and skipped.csv if
    broken files were left out. Ctrl-C ends training after the current step: everything is saved,
    and the summary says `"interrupted": true` with the test results of the last whole epoch.

    Args:
        model: A `keras.Model` that takes images of `dataset.image_size` and returns probabilities
            or logits, one per class, such as from `network_for`. It is compiled here. For a
            repeatable run, call `keras.utils.set_random_seed` before building it.
        dataset: Dataset, from `load_dataset`.
        recipe: Recipe, or a name that `list_recipes()` has.
        output: str, the folder. Default: `runs/<model>-<data>`, with -2, -3 if that exists.
        overwrite: bool, whether a run that `output` already holds may be replaced.
        resume: bool, whether to resume the run in `output` from its last checkpoint. With the same
            model, data and recipe it ends as if it had never been interrupted. Without a checkpoint
            a new run begins.
        record: Mapping with more to write into config.json, such as the network's configuration.
        console: `rich.console.Console` to show progress on. Default: standard output.
        callbacks: Sequence of callbacks besides those of a run, such as
            `keras.callbacks.EarlyStopping`.

    Returns:
        A dictionary, the content of summary.json: `test_top1`, `test_top5` (None for fewer than 6
        classes) and `test_loss`, `best_top1`, `images_per_second` (of training, without compiling
        and testing), `seconds`, `parameters`, `macs`, `epochs` and more, and `output`, the folder.

    Raises:
        ValueError: If the output cannot be used, the model does not fit the data or the recipe, an
            image cannot be decoded, or a checkpoint is of another run.
        DivergedError: If the loss becomes NaN; what has been saved stays.
        WriteError: If a file cannot be written; its earlier version stays.
    """
    console = console or Console(quiet=worker()[0] > 0)
    planned = plan(
        model, dataset, recipe, output, overwrite=overwrite, resume=resume, record=record
    )
    with naming_undecodable(planned.dataset):
        built = build(planned)
        folder = _open_folder(planned, built, console)
        return loop(planned, built, folder, console, callbacks)


def _open_folder(plan: Plan, built: Built, console: Console) -> Path:
    """Make or reopen the folder of a run, and print the notes on it."""
    cache, chief = built.training.plan, worker()[0] == 0
    if not chief:  # only the first worker writes the folder
        folder = Path(tempfile.mkdtemp(prefix="keras-resnext-worker-"))
    elif plan.checkpoint:
        folder = Path(plan.output)
    else:
        folder = make_folder(plan.output, plan.model.name, plan.dataset.name)
    if not plan.checkpoint:
        write_json(folder / CONFIG, {**plan.facts, "cache": f"{cache.kind}: {cache.reason}"})
    if cache.kind != "array":
        console.print(f"kept between epochs: {cache.kind}: {cache.reason}", highlight=False)
    if plan.dataset.skipped:
        rows = [{"file": path, "fault": fault} for path, fault in plan.dataset.skipped]
        write_rows(folder / SKIPPED, rows)
        console.print(f"left out: {len(rows)} broken files, listed in {folder / SKIPPED}")
    for note in plan.notes:
        console.print(note, highlight=False)
    return folder


@dataclass(frozen=True)
class Session:
    """A run by names alone, which the command line starts and `resume` finds in a folder."""

    model: str
    data: str
    image_size: int
    recipe: Recipe
    weights: str | None = None
    network: Mapping = field(default_factory=dict)

    def train(
        self,
        dataset: Dataset,
        output: str | Path | None = None,
        *,
        strategy: str = "auto",
        record: Mapping | None = None,
        **options: object,
    ) -> dict:
        """Build the network and train it on the data set that `data` names, as `train` does."""
        with distributed(strategy):
            model = network_for(self.model, dataset, self.recipe, self.weights, **self.network)
            synchronize(model)
            record = {**self.to_dict(), **(record or {})}
            return train(model, dataset, self.recipe, output, record=record, **options)

    def to_dict(self) -> dict:
        """Return what config.json holds of it."""
        weights = self.weights and str(self.weights)
        if weights and Path(weights).is_file():
            weights = str(Path(weights).absolute())
        names = {"weights": weights, "network": dict(self.network), "model": self.model}
        names |= {"data": absolute_source(self.data), "image_size": self.image_size}
        configuration = {}
        if not is_baseline(self.model):
            fields = {**fitting(self.model, self.recipe.network), **self.network}
            configuration = asdict(variants.get(self.model).config.replace(**fields))
        return {KEY: names, "configuration": configuration}

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Session":
        """Return the session of a run's folder, or raise a `ValueError` if it cannot be resumed."""
        check_resumable(folder)
        config = read_json(Path(folder, CONFIG))
        names = {key: value for key, value in config[KEY].items() if key != "recipe"}
        # The resolved one: a later version may have other defaults.
        recipe = from_fields(config["recipe"])
        if is_baseline(names["model"]) and "l2" in recipe.network:
            raise ValueError(
                f'"{folder}" cannot be resumed: it has a decoupled weight_decay={recipe.decay} and '
                f"l2={recipe.network['l2']}, and {names['model']} takes no l2."
            )
        network = names.pop("network")
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items()}
        return cls(**names, recipe=recipe, network=network)


def resume(folder: str | Path, *, strategy: str = "auto", **options: object) -> dict:
    """Resume a run that the command line or a `Session` began.

    It ends as if it had not been interrupted: on a CPU with `deterministic=True` bit for bit.

    Args:
        folder: str, path of the run's folder.
        strategy: str, "auto", "none", "mirrored" or "multi_worker", as on the command line.
        **options: As in `train`.

    Returns:
        A dictionary, as `train`.

    Raises:
        ValueError: If the folder holds no run that can be resumed, or the data has changed.
    """
    session = Session.from_folder(folder)
    recipe = session.recipe
    dataset = load_dataset(session.data, session.image_size, recipe.seed, recipe.on_error)
    return session.train(dataset, folder, strategy=strategy, resume=True, **options)
