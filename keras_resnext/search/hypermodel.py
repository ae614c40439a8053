"""The networks of a space as a KerasTuner hypermodel."""

from dataclasses import replace

import keras
import keras_tuner

from keras_resnext.data.mixing import parse_mixing
from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import assemble
from keras_resnext.search.oracles import declare
from keras_resnext.search.space import Space
from keras_resnext.training.build import compile_recipe, network_for, pipelines
from keras_resnext.training.plan import steps_per_epoch
from keras_resnext.training.recipe import Recipe


class ResNeXtHyperModel(keras_tuner.HyperModel):
    """The networks of a space, for KerasTuner's own tuners.

    Args:
        space: `Space` to search.
        dataset: `Dataset` from `load_dataset`, for whose images and classes networks are built.
        epochs: int, epochs per trial, for the learning rate schedule. Defaults to the space's, or
            the data set's own.

    Raises:
        ValueError: If no network of the space is within its budget on these images.

    Example:
    >>> from keras_resnext.data.datasets import load_dataset
    >>> space = Space(
    ...     model="ResNeXt35", budget={"macs": "ResNeXt35"}, vary={"cardinality": [1, 2, 4, 8]}
    ... )
    >>> hypermodel = ResNeXtHyperModel(space, load_dataset("digits"))
    >>> model = hypermodel.build(keras_tuner.HyperParameters())
    >>> model.name, model.output_shape
    ('ResNeXt35', (None, 10))
    """

    def __init__(self, space: Space, dataset: Dataset, epochs: int | None = None) -> None:
        super().__init__(name=space.model)
        self.space, self.dataset, self.epochs = space, dataset, epochs
        self.candidates = space.on(dataset.image_size, dataset.classes)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile a network.

        Args:
            hp: `keras_tuner.HyperParameters` to declare hyperparameters in and to take values from.

        Returns:
            A compiled `keras.Model`.

        Raises:
            keras_tuner.errors.FailedTrialError: If the values do not describe a network within the
                budget, or a recipe; the tuner then tries others.
        """
        recipe = self._recipe(hp)
        model = network_for(recipe.model, self.dataset, recipe, self.space.weights)
        compile_recipe(model, recipe, steps_per_epoch(self.dataset, recipe) * recipe.epochs)
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, **arguments: object
    ) -> keras.callbacks.History:
        """Train a network on the data set.

        Args:
            hp: `keras_tuner.HyperParameters`, as in `build`.
            model: `keras.Model` that `build` returned.
            **arguments: Arguments of `keras.Model.fit` other than the training data.
                `validation_data` defaults to the data set's test part.

        Returns:
            The `keras.callbacks.History`.
        """
        recipe = self._recipe(hp)
        dataset = replace(self.dataset, augmentation=recipe.augmentation)
        training, test = pipelines(model, dataset, recipe, parse_mixing(recipe.mixing))
        arguments = {"validation_data": test, "epochs": recipe.epochs, **arguments}
        return model.fit(
            assemble(training, arguments["epochs"]),
            steps_per_epoch=steps_per_epoch(self.dataset, recipe),
            shuffle=False,
            **arguments,
        )

    def _recipe(self, hp: keras_tuner.HyperParameters) -> Recipe:
        try:
            recipe = self.candidates.recipe_of(self.candidates.draw(declare(hp, self.candidates)))
        except ValueError as error:
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        recipe = recipe.replace(epochs=self.epochs or recipe.epochs)
        return recipe.resolved(self.dataset)
