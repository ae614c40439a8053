"""KerasTuner's oracles on a space: what they propose is a network within the budget, and new.

What they know is kept by ``state_of`` and ``restore`` in one piece, since KerasTuner's own ``save``
writes several files in place (a process killed between two of them leaves a search that neither
loads nor goes on), and leaves out the position of a grid search.
"""

import itertools
import warnings
from collections.abc import Mapping

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

from keras_resnext.search.space import Candidates, Choice

SCORE = "score"
# Below every accuracy.
WORST = -1.0
# Draws that are no network or were tried before, in a row, until a space counts as exhausted.
DRAWS = 1000
# Of the variance of the scores, what is between two seeds of one trial.
NOISE = 0.02
BEST_OF = 100


def declare(hp: keras_tuner.HyperParameters, candidates: Candidates) -> dict:
    """Register what is searched, and give its values.

    Args:
        hp: To register with.
        candidates: From ``Space.on``.

    Returns:
        The value of each hyperparameter by its name.
    """
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
    """What the four have in common: before KerasTuner's class in each one's bases."""

    def __init__(self, candidates, **arguments):
        hyperparameters = keras_tuner.HyperParameters()
        declare(hyperparameters, candidates)
        self.candidates = candidates
        super().__init__(
            objective=keras_tuner.Objective(SCORE, "max"),
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            # Whether a search that only fails goes on is not for the oracle to say.
            max_consecutive_failed_trials=2**31,
            **arguments,
        )
        self.verbose = 0
        self._max_collisions = DRAWS

    def _duplicate(self, values):
        return not self.candidates.valid(values) or super()._duplicate(values)

    def save(self):
        pass

    def _save_trial(self, trial):
        pass


class RandomOracle(_OnSpace, RandomSearchOracle):
    """Draws at random, none twice."""


class BayesianOracle(_OnSpace, BayesianOptimizationOracle):
    """A Gaussian process. KerasTuner's may propose what was tried already: this one does not."""

    def populate_space(self, trial_id):
        with warnings.catch_warnings():
            # Few points leave the length scale open: nothing that a user could do about.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._fit_finished()
            response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            return self._best_of_random()
        return response

    def _fit_finished(self):
        """Know the finished trials before guessing what those under way will give."""
        every = self.trials
        self.trials = {t.trial_id: t for t in every.values() if t.status == "COMPLETED"}
        try:
            if self.trials:
                self.gpr.fit(*self._vectorize_trials())
        finally:
            self.trials = every

    def _best_of_random(self):
        drawn = [self._random_values() for _ in range(BEST_OF)]
        drawn = [values for values in drawn if values is not None]
        if not drawn:
            return {"status": "STOPPED", "values": None}
        space = self._nonfixed_space()
        x = np.array([[hp.value_to_prob(values[hp.name]) for hp in space] for values in drawn])
        mean, deviation = self.gpr.predict(x, return_std=True)
        best = int(np.argmin(mean - self.beta * deviation))
        return {"status": "RUNNING", "values": drawn[best]}


class HyperbandOracle_(_OnSpace, HyperbandOracle):
    """Many for few epochs, the best of them for more."""


class GridOracle(_OnSpace, GridSearchOracle):
    """Everything, in order: where it stands follows from the last trial that was begun."""

    def populate_space(self, trial_id):
        if self.start_order:
            values = self.trials[self.start_order[-1]].hyperparameters.values
            values = self._get_next_combination(values)
        else:
            values = {hp.name: hp.default for hp in self.hyperparameters.space}
        while values is not None and self._duplicate(values):
            values = self._get_next_combination(values)
        return {"status": "STOPPED" if values is None else "RUNNING", "values": values}


def _random(candidates, trials, epochs, factor, seed):
    return RandomOracle(candidates, max_trials=trials, seed=seed)


def _bayesian(candidates, trials, epochs, factor, seed):
    at_random = max(3, min(3 * len(candidates.parameters), (trials or 30) // 3))
    return BayesianOracle(
        candidates, max_trials=trials, seed=seed, num_initial_points=at_random, alpha=NOISE
    )


def _hyperband(candidates, trials, epochs, factor, seed):
    oracle = HyperbandOracle_(candidates, max_epochs=epochs, factor=factor, seed=seed)
    _check_first_round(candidates, oracle._get_size(oracle._current_bracket, 0))
    return oracle


def _check_first_round(candidates, needed):
    """Without enough points for it, KerasTuner's would end there, with its shortest trainings."""
    if not all(isinstance(parameter, Choice) for parameter in candidates.parameters):
        return
    names = [parameter.name for parameter in candidates.parameters]
    points = itertools.product(*(parameter.values for parameter in candidates.parameters))
    valid = (keys for keys in points if candidates.valid(dict(zip(names, keys, strict=True))))
    found = sum(1 for _ in itertools.islice(valid, needed))
    if found < needed:
        raise ValueError(
            f"The space has {found} points, and the first round of Hyperband needs {needed}: use "
            'oracle="grid", fewer `epochs`, or a greater `factor`.'
        )


def _grid(candidates, trials, epochs, factor, seed):
    return GridOracle(candidates, max_trials=trials, seed=seed)


ORACLES = {"random": _random, "bayesian": _bayesian, "hyperband": _hyperband, "grid": _grid}


def make_oracle(name, candidates, trials, epochs, factor, seed) -> keras_tuner.Oracle:
    """Make one of KerasTuner's oracles for a space.

    Args:
        name: A key of ``ORACLES``.
        candidates: From ``Space.on``.
        trials: The greatest number of trials; None for all there are (Hyperband decides itself).
        epochs: Of a whole training, for Hyperband.
        factor: Hyperband's: of so many trials one is trained on, so many times as long.
        seed: Of what is drawn, at least 0.

    Returns:
        The oracle. Its objective is to maximize "score".

    Raises:
        ValueError: If Hyperband's first round needs more points than the space has.
    """
    # KerasTuner takes a seed of 0 for none.
    return ORACLES[name](candidates, trials, epochs, factor, seed + 1)


def expected_trials(oracle: keras_tuner.Oracle) -> int | None:
    """How many trials there will be at most, or None where that is not known."""
    if isinstance(oracle, HyperbandOracle):
        brackets = range(oracle._get_num_brackets())
        return sum(oracle._get_size(b, r) for b in brackets for r in range(b + 1))
    return oracle.max_trials


def begin(oracle: keras_tuner.Oracle) -> Trial:
    """Ask for a trial.

    Returns:
        A trial: to be run if its status is "RUNNING"; "IDLE" if none can be begun before another
        has ended, "STOPPED" if none will be.
    """
    return oracle.create_trial(f"trial-{len(oracle.trials)}")


def end(oracle: keras_tuner.Oracle, trial_id: str, result: Mapping) -> None:
    """Tell what became of a trial.

    Args:
        oracle: That has begun it.
        trial_id: Its id.
        result: ``status`` and, of a completed one, ``score``, of a failed one, ``reason``.
    """
    trial = oracle.trials[trial_id]
    trial.message = result.get("reason")
    # A failed trial would keep the others of its round in Hyperband from going on.
    scored = result["status"] == "completed" or isinstance(oracle, HyperbandOracle)
    trial.status = "COMPLETED" if scored else "FAILED"
    if scored:
        oracle.update_trial(trial_id, {SCORE: result.get("score", WORST)})
    oracle.end_trial(trial)


def state_of(oracle: keras_tuner.Oracle) -> dict:
    """Everything that an oracle knows, of what JSON can hold."""
    trials = [trial.get_state() for trial in oracle.trials.values()]
    return {"trials": trials, "oracle": oracle.get_state()}


def restore(oracle: keras_tuner.Oracle, state: Mapping) -> None:
    """Let an oracle know what ``state_of`` gave, and nothing else."""
    oracle.trials = {row["trial_id"]: Trial.from_state(row) for row in state["trials"]}
    oracle.set_state(state["oracle"])
