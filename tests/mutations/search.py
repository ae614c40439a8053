"""Searching: what is proposed, what a trial is told and sees, and what is kept."""

from mutations import Mutation

MUTATIONS = (
    Mutation(
        file="keras_resnext/search/budget.py",
        old="return min(fitting, key=",
        new="return max(fitting, key=",
        tests="tests/search/test_space.py -k widths_of_the_paper",
    ),
    Mutation(
        file="keras_resnext/search/budget.py",
        old="if abs(cost - self.target) <= room",
        new="if cost - self.target <= room",
        tests="tests/search/test_space.py -k 'no_width_pays or out_of_reach'",
    ),
    Mutation(
        file="keras_resnext/search/parameters.py",
        old='default = math.sqrt(low * high) if scale == "log" else',
        new='default = (low + high) / 2 if scale == "log" else',
        tests="tests/search/test_space.py -k begins_in_its_middle",
    ),
    Mutation(
        file="keras_resnext/search/candidates.py",
        old="return self._is_network(values) and self._is_recipe(values)",
        new="return self._is_network(values)",
        tests="tests/search/test_space.py -k no_recipe_together",
    ),
    Mutation(
        file="keras_resnext/search/driver.py",
        old='"epochs": total - before,',
        new='"epochs": total,',
        tests="tests/search/test_driver.py -k goes_on_from_the_round_before",
    ),
    Mutation(
        file="keras_resnext/search/driver.py",
        old='"data", "image_size", "holdout")',
        new='"data", "image_size")',
        tests="tests/search/test_driver.py -k told_what",
    ),
    Mutation(
        file="keras_resnext/search/driver.py",
        old='needed = row["front"] or row is best',
        new="needed = row is best",
        tests="tests/search/test_driver.py -k others_are_not",
    ),
    Mutation(
        file="keras_resnext/search/oracles.py",
        old='keras_tuner.Objective(SCORE, "max")',
        new='keras_tuner.Objective(SCORE, "min")',
        tests="tests/search/test_driver.py -k goes_on_from_the_round_before",
    ),
    Mutation(
        file="keras_resnext/search/processes.py",
        old="if self.trial.count(DIED) < settings.attempts:",
        new="if self.trial.count(DIED) <= settings.attempts:",
        tests="tests/search/test_driver.py -k faults_cost",
    ),
    Mutation(
        file="keras_resnext/search/trial.py",
        old="train=train, test=validation",
        new="train=train, test=dataset.test",
        tests="tests/search/test_trial.py -k never_seen",
    ),
    Mutation(
        file="keras_resnext/search/trial.py",
        old="    model.load_weights(weights)\n",
        new="    pass\n",
        tests="tests/search/test_trial.py -k next_round",
    ),
    Mutation(
        file="keras_resnext/search/trial.py",
        old="seed=recipe.seed + number",
        new="seed=recipe.seed",
        tests="tests/search/test_trial.py -k averaged",
    ),
    Mutation(
        file="keras_resnext/search/table.py",
        old='key=lambda row: row["score"], default=None',
        new='key=lambda row: -row["score"], default=None',
        tests="tests/search/test_driver.py -k 'ends_with_every_trial and grid'",
    ),
)
