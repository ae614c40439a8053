"""The settings of a search: `search.json` in its folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from keras_resnext.checks import check_fields, choice, integer, number, optional
from keras_resnext.search.folder import SEARCH, Folder
from keras_resnext.search.oracles import ORACLES
from keras_resnext.search.space import space_from
from keras_resnext.search.trial import OBJECTIVES
from keras_resnext.training.recipes import get_recipe

RULES = {
    "oracle": choice(ORACLES),
    "objective": choice(OBJECTIVES),
    "trials": optional(integer(1)),
    "epochs": integer(1),
    "executions": integer(1),
    "attempts": integer(1),
    "patience": optional(integer(1)),
    "factor": integer(2),
    "seed": integer(0),
    "time_limit": optional(number(above=0)),
    "holdout": number(above=0, below=1),
}
# Settings that may change when a search is resumed.
LIMITS = ("trials", "time_limit", "attempts")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `search`, with all defaults filled in; raise a `ValueError` if invalid."""

    space: Mapping
    data: str
    image_size: int
    classes: int
    oracle: str
    trials: int | None
    epochs: int
    executions: int
    objective: str
    holdout: float
    patience: int | None
    time_limit: float | None
    attempts: int
    factor: int
    on_error: str
    seed: int
    backend: str | None

    def __post_init__(self) -> None:
        check_fields(self, RULES)
        if self.oracle == "hyperband" and self.trials is not None:
            raise ValueError(
                "Hyperband's number of trials follows from `epochs` and `factor`: leave `trials` "
                f"out. Received: trials={self.trials}"
            )


def read_settings(folder: Folder) -> Settings:
    """Return the settings of the search in a folder, or raise a `ValueError`."""
    fields = folder.read(SEARCH)
    if fields is None:
        raise ValueError(f'The folder "{folder.path}" holds no search: {SEARCH} is missing.')
    return Settings(**{**fields, "space": with_one_decay(fields["space"])})


def with_one_decay(space: Mapping) -> dict:
    """Translate a space with the fields of earlier versions to the single weight decay.

    `weight_decay` without `decoupled` was decoupled; an `l2` beside it was the network's.
    """
    names, fixed = {**space["vary"], **space["fixed"]}, dict(space["fixed"])
    if "decoupled" in names:
        return dict(space)
    if "weight_decay" in names:
        fixed["decoupled"] = None if names["weight_decay"] == 0 else True
    elif "l2" in names and not get_recipe(space["recipe"]).decouples:
        fixed["weight_decay"] = 0.0  # it was an l2, which the space's own replaced
    return {**space, "fixed": fixed}


def check_same(folder: Folder, settings: Settings) -> None:
    """Raise a `ValueError` if a folder contains a search with other settings, except its limits."""
    limits = {name: getattr(settings, name) for name in LIMITS}
    before, now = asdict(replace(read_settings(folder), **limits)), asdict(settings)
    before["space"] = space_from(before["space"]).to_dict()
    for name, value in now.items():
        if value != before[name]:
            raise ValueError(
                f'The folder "{folder.path}" holds a search with {name}={before[name]!r}. Name '
                f"another folder, or give the same. Received: {name}={value!r}"
            )
