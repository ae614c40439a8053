"""Cardinality against width at equal cost, on the digits, with KerasTuner.

The ResNeXt paper's table 3 in small: each trial has the multiply-adds of the same bottleneck,
split into more and narrower groups.

    python tuning/cardinality.py [epochs] [folder]
"""

import sys

import keras
import keras_tuner

import keras_resnext
from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.pipeline import test_batches, training_batches

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
folder = sys.argv[2] if len(sys.argv) > 2 else "runs/tuning"
digits = load_dataset("digits")


def build(choices):
    cardinality = choices.Choice("cardinality", [1, 2, 4, 8])
    # At the cost of the default, 8 groups of 16 channels in the last stage, which has 32 planes;
    # `width_per_group` is given for 64.
    width = 2 * keras_resnext.width_for_cardinality(cardinality, planes=32, base_width=62)
    model = keras_resnext.ResNeXt35(
        classes=len(digits.class_names), cardinality=cardinality, width_per_group=width
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


tuner = keras_tuner.GridSearch(build, "val_accuracy", directory=folder, project_name="digits")
tuner.search(
    training_batches(digits, batch_size=32, drop_remainder=True),
    validation_data=test_batches(digits, batch_size=32),
    epochs=epochs,
    shuffle=False,  # the pipeline does
)
tuner.results_summary()
