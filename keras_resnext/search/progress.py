"""The live table of a search."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from keras_resnext.search.folder import Folder, TrialFolder
from keras_resnext.search.table import best_of, hyperparameters, rows_of

SECONDS_BETWEEN_TABLES = 1.0
LAST = 8


class Progress:
    """A context that shows a search on a terminal, or else prints a line per finished trial."""

    def __init__(self, folder: Folder, oracle: str, expected: int | None, console: Console) -> None:
        self.folder, self.oracle, self.expected, self.console = folder, oracle, expected, console
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.last_shown, self.printed = 0.0, set()

    def __enter__(self) -> "Progress":
        self.printed = {row["trial"] for row in rows_of(self.folder) if row["status"] != "running"}
        if self.printed:
            self.console.print(f"resuming after {len(self.printed)} finished trials")
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._print_ended(rows_of(self.folder))
        self.live.stop()

    def show(self, running: Sequence[TrialFolder]) -> None:
        """Show finished trials and those of this process, at most once per second."""
        if time.monotonic() - self.last_shown < SECONDS_BETWEEN_TABLES:
            return
        self.last_shown = time.monotonic()
        rows = rows_of(self.folder)
        self._print_ended(rows)
        if self.console.is_terminal:
            self.live.update(self._table(rows, running), refresh=True)

    def _print_ended(self, rows: Sequence[Mapping]) -> None:
        best = best_of(rows)
        for row in rows:
            if row["status"] == "running" or row["trial"] in self.printed:
                continue
            self.printed.add(row["trial"])
            spec = self.folder.trial(row["trial"]).spec
            self.console.print(
                f"trial {row['trial']}  {_outcome(row)}  {_words(spec)}"
                f"{'  (best)' if row is best else ''}",
                highlight=False,
                soft_wrap=True,
            )

    def _table(self, rows: Sequence[Mapping], running: Sequence[TrialFolder]) -> Table:
        ended = [row for row in rows if row["status"] != "running"]
        best = best_of(rows)
        table = Table(title=self._title(ended, len(running)), title_justify="left")
        for heading in ("trial", "epochs", "top-1", "hyperparameters"):
            table.add_column(heading, no_wrap=heading != "hyperparameters")
        last = ended[-LAST:]
        for row in last if best is None or best in last else [best, *last]:
            spec = self.folder.trial(row["trial"]).spec
            style = "bold" if row is best else "red" if row["status"] == "failed" else None
            epochs = str(row["trained_epochs"] or "")
            table.add_row(row["trial"], epochs, _outcome(row), _words(spec), style=style)
        for trial in running:
            spec = trial.spec
            total = spec["epochs"] * spec["executions"]
            table.add_row(trial.id, f"{trial.epochs_done}/{total}", "running", _words(spec))
        return table

    def _title(self, ended: Sequence[Mapping], workers: int) -> str:
        total = f" of {self.expected}" if self.expected else ""
        title = f"{self.oracle} search: {len(ended)}{total} trials"
        seconds = [row["seconds"] for row in ended if row["seconds"]]
        if self.expected and seconds and workers:
            each = sum(seconds) / len(seconds)
            minutes = each * max(0, self.expected - len(ended)) / workers / 60
            title += f", about {minutes:.0f} minutes left"
        return title


def _outcome(row: Mapping) -> str:
    if row["status"] == "failed":
        return f"failed: {row['reason']}"
    return f"top-1 {row['top1']:.2%}"


def _words(spec: Mapping) -> str:
    return "  ".join(f"{name}={_brief(value)}" for name, value in hyperparameters(spec).items())


def _brief(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
