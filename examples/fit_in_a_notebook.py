"""A ResNeXt in a few lines of plain Keras: build, fit, save, load.

python examples/fit_in_a_notebook.py [epochs]
"""

import sys

import keras_resnext  # before Keras, so that TensorFlow uses oneDNN on every x86 processor

# isort: split
import keras

from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.pipeline import test_batches, training_batches

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
digits = load_dataset("digits")
train = training_batches(digits, batch_size=32, drop_remainder=True)
test = test_batches(digits, batch_size=32)

keras.utils.set_random_seed(0)
model = keras_resnext.ResNeXt35(weights=None, classes=len(digits.class_names))
model.compile(
    keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    loss="categorical_crossentropy",
    metrics=["accuracy"],
)
model.fit(train, validation_data=test, epochs=epochs, shuffle=False)  # the pipeline does

model.save("digits.keras")
loaded = keras.saving.load_model("digits.keras")
print("test accuracy after loading:", loaded.evaluate(test, verbose=0)[1])
