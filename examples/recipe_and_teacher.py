"""A recipe with changes of one's own, then a smaller network that learns from the first.

python examples/recipe_and_teacher.py [epochs]
"""

import sys

import keras_resnext

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
digits = keras_resnext.load_dataset("digits")

recipe = keras_resnext.get_recipe("default").replace(epochs=epochs, label_smoothing=0.1, ema=0.98)
teacher = keras_resnext.network_for("ResNeXt35", digits, recipe)
keras_resnext.train(teacher, digits, recipe, "runs/teacher", overwrite=True)

distilled = recipe.replace(teacher="runs/teacher", temperature=2.0, mixing="mixup(0.2)")
student = keras_resnext.network_for("ResNet20", digits, distilled, blocks=(1, 1, 1))
summary = keras_resnext.train(student, digits, distilled, "runs/student", overwrite=True)
print(f"the student's top-1: {summary['test_top1']:.2%}")
