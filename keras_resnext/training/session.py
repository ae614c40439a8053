"""A run by names alone: what the command line starts, and what goes on after an interruption."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras

from keras_resnext.data.datasets import Dataset, absolute_source, load_dataset
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.training import fit
from keras_resnext.training.distribution import distributed, synchronise
from keras_resnext.training.network import fitting, network_for
from keras_resnext.training.recipe import Recipe, from_fields
from keras_resnext.training.run_folder import CONFIG, check_resumable, read_json

# In config.json.
KEY = "session"


@dataclass(frozen=True)
class Session:
    """All that has to be named for a run.

    Args:
        model: Name of the network.
        data: Source of the data set.
        image_size: Edge of the training images, pixels.
        recipe: How to train.
        weights: To go on from, or None.
        network: Fields of the network's configuration that were changed.
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
        **options,
    ) -> dict:
        """Build the network and train it.

        Args:
            dataset: What ``data`` stands for.
            output: As in ``fit.train``.
            strategy: As in ``distribution.distributed``.
            record: More to write into config.json.
            **options: Of ``fit.train``.

        Returns:
            What ``fit.train`` returns.
        """
        with distributed(strategy):
            model = self.build(dataset)
            synchronise(model)
            return fit.train(
                model,
                dataset,
                self.recipe,
                output,
                record={**self._record(), **(record or {})},
                **options,
            )

    def build(self, dataset: Dataset) -> keras.Model:
        """Build the network.

        Args:
            dataset: What ``data`` stands for.
        """
        return network_for(self.model, dataset, self.recipe, self.weights, **self.network)

    def _record(self) -> dict:
        weights = self.weights and str(self.weights)
        if weights and Path(weights).is_file():
            weights = str(Path(weights).absolute())
        mine = {"weights": weights, "network": dict(self.network), "model": self.model}
        mine |= {"data": absolute_source(self.data), "image_size": self.image_size}
        configuration = {}
        if not is_baseline(self.model):
            fields = {**fitting(self.model, self.recipe.network), **self.network}
            configuration = asdict(variants.get(self.model).config.replace(**fields))
        return {KEY: {**mine, "recipe": asdict(self.recipe)}, "configuration": configuration}


def resume(folder: str | Path, *, strategy: str = "auto", **options) -> dict:
    """Go on with a run that the command line or a ``Session`` has begun.

    It ends as if it had not been interrupted: on a CPU with ``deterministic=True`` bit for bit.

    Args:
        folder: Of the run.
        strategy: As in ``distribution.distributed``.
        **options: Of ``fit.train``.

    Returns:
        What ``fit.train`` returns.

    Raises:
        ValueError: If the folder holds no run that can be gone on with, or the data has changed.
    """
    check_resumable(folder)
    kept = read_json(Path(folder, CONFIG))[KEY]
    recipe = from_fields(kept["recipe"])
    dataset = load_dataset(kept["data"], kept["image_size"], recipe.seed, recipe.on_error)
    network = {k: tuple(v) if isinstance(v, list) else v for k, v in kept["network"].items()}
    session = Session(
        kept["model"], kept["data"], kept["image_size"], recipe, kept["weights"], network
    )
    return session.train(dataset, folder, strategy=strategy, resume=True, **options)
