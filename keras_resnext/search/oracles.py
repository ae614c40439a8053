"""KerasTuner's oracles, restricted to new networks of a space within its budget.

All uses of KerasTuner's private names are in this file.
"""

import itertools
import warnings
from collections.abc import Callable, Mapping

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial
from keras_tuner.oracles import (
    BayesianOptimizationOracle,
    GridSearchOracle,
    HyperbandOracle,
    RandomSearchOracle,
)
from sklearn.exceptions import ConvergenceWarning

from keras_resnext.search.candidates import Candidates
from keras_resnext.search.parameters import Choice

SCORE = "score"
# Below every accuracy.
WORST = -1.0
# Draws in a row that are no network or were tried before, until a space counts as exhausted.
DRAWS = 1000
# Variance between two seeds of one trial, as a share of the variance of the scores.
NOISE = 0.02
BEST_OF = 100


def declare(hp: keras_tuner.HyperParameters, candidates: Candidates) -> dict:
    """Declare the hyperparameters, and return their values by name."""
    values = {}
    for parameter in candidates.parameters:
        name, default = parameter.name, parameter.default
        if isinstance(parameter, Choice):
            values[name] = hp.Choice(name, list(parameter.values), default=default)
        else:
            low, high, scale = parameter.low, parameter.high, parameter.scale
            values[name] = hp.Float(name, low, high, sampling=scale, default=default)
    return values


class _OnSpace:
    """What the four oracles share; precedes KerasTuner's class in their bases."""

    def __init__(self, candidates: Candidates, **arguments) -> None:
        hyperparameters = keras_tuner.HyperParameters()
        declare(hyperparameters, candidates)
        self.candidates = candidates
        super().__init__(
            objective=keras_tuner.Objective(SCORE, "max"),
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            # The oracle does not decide when a search that only fails ends.
            max_consecutive_failed_trials=2**31,
            **arguments,
        )
        self.verbose = 0
        self._max_collisions = DRAWS

    def _duplicate(self, values: Mapping) -> bool:
        return not self.candidates.valid(values) or super()._duplicate(values)

    def save(self) -> None:
        """Do nothing, since the state is saved as a whole: see `state_of`."""

    def _save_trial(self, trial: Trial) -> None:
        pass


class RandomOracle(_OnSpace, RandomSearchOracle):
    """Random values, without repetition."""


class BayesianOracle(_OnSpace, BayesianOptimizationOracle):
    """A Gaussian process that, unlike KerasTuner's, proposes nothing twice."""

    def populate_space(self, trial_id: str) -> dict:
        """Return the values of the next trial."""
        with warnings.catch_warnings():
            # Few points do not determine the length scale; users cannot do anything about it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._fit_finished()
            response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            return self._best_of_random()
        return response

    def _fit_finished(self) -> None:
        """Fit the finished trials before the results of others are guessed."""
        every = self.trials
        self.trials = {t.trial_id: t for t in every.values() if t.status == "COMPLETED"}
        try:
            if self.trials:
                self.gpr.fit(*self._vectorize_trials())
        finally:
            self.trials = every

    def _best_of_random(self) -> dict:
        draws = [self._random_values() for _ in range(BEST_OF)]
        draws = [values for values in draws if values is not None]
        if not draws:
            return {"status": "STOPPED", "values": None}
        space = self._nonfixed_space()
        x = np.array([[hp.value_to_prob(values[hp.name]) for hp in space] for values in draws])
        mean, deviation = self.gpr.predict(x, return_std=True)
        best = int(np.argmin(mean - self.beta * deviation))
        return {"status": "RUNNING", "values": draws[best]}


class HyperbandOracle_(_OnSpace, HyperbandOracle):
    """Many trials for a few epochs, the best of them for more."""


class GridOracle(_OnSpace, GridSearchOracle):
    """All combinations, in order; the position follows from the last trial that has begun."""

    def populate_space(self, trial_id: str) -> dict:
        """Return the values of the next trial."""
        if self.start_order:
            values = self.trials[self.start_order[-1]].hyperparameters.values
            values = self._get_next_combination(values)
        else:
            values = {hp.name: hp.default for hp in self.hyperparameters.space}
        while values is not None and self._duplicate(values):
            values = self._get_next_combination(values)
        return {"status": "STOPPED" if values is None else "RUNNING", "values": values}


def _bayesian(
    candidates: Candidates, trials: int | None, epochs: int, factor: int, seed: int
) -> BayesianOracle:
    at_random = max(3, min(3 * len(candidates.parameters), (trials or 30) // 3))
    return BayesianOracle(
        candidates, max_trials=trials, seed=seed, num_initial_points=at_random, alpha=NOISE
    )


def _hyperband(
    candidates: Candidates, trials: int | None, epochs: int, factor: int, seed: int
) -> HyperbandOracle_:
    oracle = HyperbandOracle_(candidates, max_epochs=epochs, factor=factor, seed=seed)
    _check_first_round(candidates, oracle._get_size(oracle._current_bracket, 0))
    return oracle


ORACLES: dict[str, Callable[..., keras_tuner.Oracle]] = {
    "random": lambda candidates, trials, epochs, factor, seed: RandomOracle(
        candidates, max_trials=trials, seed=seed
    ),
    "bayesian": _bayesian,
    "hyperband": _hyperband,
    "grid": lambda candidates, trials, epochs, factor, seed: GridOracle(
        candidates, max_trials=trials, seed=seed
    ),
}


def _check_first_round(candidates: Candidates, needed: int) -> None:
    """Raise a `ValueError` if Hyperband, with too few points, would end after its first round."""
    if not all(isinstance(parameter, Choice) for parameter in candidates.parameters):
        return
    names = [parameter.name for parameter in candidates.parameters]
    points = itertools.product(*(parameter.values for parameter in candidates.parameters))
    valid = (keys for keys in points if candidates.valid(dict(zip(names, keys, strict=True))))
    count = sum(1 for _ in itertools.islice(valid, needed))
    if count < needed:
        raise ValueError(
            f"The space has {count} points, and the first round of Hyperband needs {needed}: use "
            'oracle="grid", fewer `epochs`, or a greater `factor`.'
        )


def make_oracle(
    name: str,
    candidates: Candidates,
    trials: int | None,
    epochs: int,
    factor: int,
    seed: int,
) -> keras_tuner.Oracle:
    """Return one of KerasTuner's oracles for a space; the arguments are those of `Settings`."""
    # KerasTuner takes a seed of 0 for none.
    return ORACLES[name](candidates, trials, epochs, factor, seed + 1)


def expected_trials(oracle: keras_tuner.Oracle) -> int | None:
    """Return the greatest number of trials, or None if it is unknown."""
    if isinstance(oracle, HyperbandOracle):
        brackets = range(oracle._get_num_brackets())
        return sum(oracle._get_size(b, r) for b in brackets for r in range(b + 1))
    return oracle.max_trials


def begin(oracle: keras_tuner.Oracle) -> Trial:
    """Return a trial, to be run only if its status is "RUNNING"; "IDLE" means later."""
    return oracle.create_trial(f"trial-{len(oracle.trials)}")


def end(oracle: keras_tuner.Oracle, trial_id: str, result: Mapping) -> None:
    """Report the result of a trial: its `status` and `score`, or the `reason` of its failure."""
    trial = oracle.trials[trial_id]
    trial.message = result.get("reason")
    # A failed trial would block the others of its round in Hyperband.
    scored = result["status"] == "completed" or isinstance(oracle, HyperbandOracle)
    trial.status = "COMPLETED" if scored else "FAILED"
    if scored:
        oracle.update_trial(trial_id, {SCORE: result.get("score", WORST)})
    oracle.end_trial(trial)


def epochs_of(values: Mapping, epochs: int) -> tuple[int, int]:
    """Return the last epoch of a trial, and the epochs run in Hyperband's previous round."""
    return values.get("tuner/epochs", epochs), values.get("tuner/initial_epoch", 0)


def previous_of(values: Mapping) -> str | None:
    """Return the id of the trial that this one continues in Hyperband, or None."""
    return values.get("tuner/trial_id")


def state_of(oracle: keras_tuner.Oracle) -> dict:
    """Return the state of an oracle as JSON values."""
    trials = [trial.get_state() for trial in oracle.trials.values()]
    return {"trials": trials, "oracle": oracle.get_state()}


def restore(oracle: keras_tuner.Oracle, state: Mapping) -> None:
    """Replace the state of an oracle by what `state_of` returned."""
    oracle.trials = {row["trial_id"]: Trial.from_state(row) for row in state["trials"]}
    oracle.set_state(state["oracle"])
