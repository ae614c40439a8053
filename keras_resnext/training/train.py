"""A training run, top to bottom: plan, build, loop; and runs by names alone, to be resumed."""

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

# Of a `Session` in config.json.
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
    """Train a classifier as a recipe says, with its progress shown, and write the run's folder.

    The folder holds model.keras (of the last epoch) and best.keras (of the best), history.csv,
    history.png and TensorBoard's events/ (all updated in training), checkpoint.safetensors
    to resume from, config.json (the settings) and summary.json (the results), and skipped.csv if
    broken files were left out. Ctrl-C ends training after the step under way: everything is saved
    as it is then, and the summary says `"interrupted": true` with the test results of the last
    whole epoch.

    Args:
        model: A `keras.Model` that takes images of `dataset.image_size` and returns probabilities
            or logits, one per class; `network_for` builds one for a recipe. It is compiled here.
            Call `keras.utils.set_random_seed` before building it for a run that can be repeated.
        dataset: Dataset, from `load_dataset`.
        recipe: Recipe, or the name of a row of the table.
        output: str, the folder. Default: `runs/<model>-<data>`, with -2, -3 if that exists.
        overwrite: bool, whether a run that `output` already holds may be replaced.
        resume: bool, whether to resume the run that `output` holds from its last checkpoint: with
            the same model, data and recipe it ends as if it had never been interrupted. If there
            is none, it is begun.
        record: Mapping with more to write into config.json, such as the configuration of the
            network.
        console: `rich.console.Console` to show progress on. Default: standard output.
        callbacks: Sequence of callbacks besides those of a run, such as
            `keras.callbacks.EarlyStopping`.

    Returns:
        A dictionary, what summary.json holds: `test_top1`, `test_top5` (None for fewer than 6
        classes) and `test_loss`, `best_top1`, `images_per_second` (of training, without compiling
        and testing), `seconds`, `parameters`, `macs`, `epochs` and more, and `output`, the folder.

    Raises:
        ValueError: If the output cannot be used, the model does not fit the data or the recipe, an
            image cannot be decoded, or a checkpoint is of another run.
        DivergedError: If the loss becomes NaN; what has been saved stays.
        WriteError: If a file cannot be written: what was there before is as it was.
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
    """Make the folder of a run, or find it again, and say what is to be known at the start."""
    cache, chief = built.training.plan, worker()[0] == 0
    if not chief:  # of several workers one writes the folder
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
    """A run by names alone: what the command line starts, and what `resume` finds in a folder.

    Args:
        model: str, name of the network.
        data: str, source of the data set.
        image_size: int, edge of the training images in pixels.
        recipe: Recipe.
        weights: str, pretrained weights, or None.
        network: Mapping from fields of the network's configuration to their values.
    """

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
        """Build the network and train it.

        Args:
            dataset: Dataset that `data` names.
            output: str, as in `train`.
            strategy: str, as in `distribution.distributed`.
            record: Mapping, as in `train`.
            **options: As in `train`.

        Returns:
            A dictionary, as `train`.
        """
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
        """Return what the command line or a `Session` began in a folder.

        Raises:
            ValueError: If the folder holds no run that can be resumed.
        """
        check_resumable(folder)
        config = read_json(Path(folder, CONFIG))
        names = {key: value for key, value in config[KEY].items() if key != "recipe"}
        # As it was resolved, so that a data set's other defaults in a later version change nothing.
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
        strategy: str, as in `distribution.distributed`.
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
