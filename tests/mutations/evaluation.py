"""Predicting, explaining, exporting and measuring."""

from mutations import Mutation

MUTATIONS = (
    Mutation(
        file="keras_resnext/evaluation/classifier.py",
        old="np.exp(outputs - outputs.max(-1, keepdims=True))",
        new="np.exp(outputs.max(-1, keepdims=True) - outputs)",
        tests="tests/evaluation/test_predict.py -k logits",
    ),
    Mutation(
        file="keras_resnext/evaluation/classifier.py",
        old='layer = test_preprocessing(size, edge, images["mean"], images["std"])',
        new='layer = test_preprocessing(size, edge, images["std"], images["mean"])',
        tests="tests/evaluation/test_predict.py -k answers_are_the_models",
    ),
    Mutation(
        file="keras_resnext/evaluation/predict.py",
        old="np.argsort(-probabilities",
        new="np.argsort(probabilities",
        tests="tests/evaluation/test_predict.py -k answers_are_the_models",
    ),
    Mutation(
        file="keras_resnext/evaluation/explain.py",
        old="weights = self.kernel[:, classes]",
        new="weights = -self.kernel[:, classes]",
        tests="tests/evaluation/test_explain.py -k 'gradients and ResNeXt35'",
    ),
    Mutation(
        file="keras_resnext/evaluation/throughput.py",
        old='"images_per_second": batch_size / median',
        new='"images_per_second": 1 / median',
        tests="tests/evaluation/test_throughput.py -k rows",
    ),
    Mutation(
        file="keras_resnext/export.py",
        old="np.abs(outputs - expected).max()",
        new="np.abs(outputs - expected).min()",
        tests="tests/evaluation/test_export.py -k says_so",
    ),
    Mutation(
        file="keras_resnext/model_files.py",
        old="if isinstance(model, str) and weights is None:",
        new="if False:",
        tests="tests/evaluation/test_predict.py -k 'wrong_arguments'",
    ),
    Mutation(
        file="keras_resnext/plots.py",
        old="[row[column] * factor for row in rows]",
        new="[row[column] for row in rows]",
        tests="tests/test_plots.py -k learning_curve",
    ),
)
