"""The table of a search: a row per trial, the best trial, and the Pareto front."""

from collections.abc import Mapping, Sequence

from keras_resnext.search.folder import STARTED, Folder

# Columns of the table that a result has.
RESULTS = ("status", "score", "top1", "spread", "held_out_loss", "images_per_second", "seconds")
RESULTS += ("trained_epochs", "ended")
# Columns with other names in a result, since hyperparameters use those names.
IN_A_RESULT = {"held_out_loss": "loss", "trained_epochs": "epochs"}


def rows_of(folder: Folder) -> list[dict]:
    """Return a row per trial, all with the same columns; `trained_epochs` counts all executions."""
    trials = [
        (trial, trial.spec, trial.result or {"status": "running"}) for trial in folder.trials()
    ]
    names = list(dict.fromkeys(name for _, spec, _ in trials for name in hyperparameters(spec)))
    rows = [
        {
            "trial": trial.id,
            **{name: result.get(IN_A_RESULT.get(name, name)) for name in RESULTS},
            "starts": trial.count(STARTED),
            "previous": spec["previous"],
            "macs": spec["macs"],
            "parameters": spec["parameters"],
            "front": False,
            **{name: hyperparameters(spec).get(name) for name in names},
            "reason": result.get("reason"),
        }
        for trial, spec, result in trials
    ]
    for row in front(rows):
        row["front"] = True
    return rows


def hyperparameters(spec: Mapping) -> dict:
    """Return the fields of the network and the training that a trial sets."""
    return {**spec["network"], **spec["training"]}


def front(rows: Sequence[Mapping]) -> list[Mapping]:
    """Return the rows that no other beats in both accuracy and images per second."""
    measured = [r for r in rows if r["top1"] is not None and r["images_per_second"] is not None]
    measured.sort(key=lambda r: (r["images_per_second"], r["top1"]), reverse=True)
    unbeaten = []
    for row in measured:
        if not unbeaten or row["top1"] > unbeaten[-1]["top1"]:
            unbeaten.append(row)
    return unbeaten[::-1]


def best_of(rows: Sequence[Mapping]) -> Mapping | None:
    """Return the completed trial with the highest score, the earliest of equals, or None."""
    completed = [row for row in rows if row["status"] == "completed"]
    return max(completed, key=lambda row: row["score"], default=None)
