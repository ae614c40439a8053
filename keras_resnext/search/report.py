"""The report of a search: pictures, and a self-contained HTML file."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from keras_resnext.search import pictures
from keras_resnext.search.folder import BEST, RECIPE, REPORT, Folder, training_command
from keras_resnext.search.settings import Settings, read_settings
from keras_resnext.search.table import best_of, hyperparameters, rows_of
from keras_resnext.training.run_folder import write_whole

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em }
img { width: 100%; max-width: 50em } table { border-collapse: collapse; font-size: 13px }
td, th { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right }
.failed { color: #b00 } .best { font-weight: bold } div { overflow-x: auto }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto }
"""
# Columns of trials.csv that the report's table omits.
LEFT_OUT = ("ended", "starts", "previous", "front", "score", "reason")


def write_report(output: str | Path, compare: Mapping[str, str | Path] | None = None) -> Path:
    """Write the pictures of a search and report.html into its folder.

    Args:
        output: str, path of the search's folder; it may still be running.
        compare: Mapping from labels to the folders of other searches, such as a random one, to
            show in the picture of the best so far. This search is labeled with its oracle.

    Returns:
        The path of report.html.

    Raises:
        ValueError: If a folder does not contain a search, or a label is that of this search.
    """
    folder = Folder(output)
    settings, rows = read_settings(folder), _ended(folder)
    if settings.oracle in (compare or {}):
        raise ValueError(
            f'"{settings.oracle}" is the label of the search in "{folder.path}" itself. Expected '
            f'another for "{compare[settings.oracle]}".'
        )
    others = {name: Folder(path) for name, path in (compare or {}).items()}
    for other in others.values():
        read_settings(other)
    searches = {settings.oracle: rows, **{name: _ended(other) for name, other in others.items()}}
    pngs = {}
    for name, figure in _figures(folder, settings, rows, searches):
        path = folder.path / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        pngs[name] = picture.getvalue()
        write_whole(path, lambda part, png=pngs[name]: part.write_bytes(png))
    page = "\n".join(_page(folder, settings, rows, pngs))
    target = folder.path / REPORT
    write_whole(target, lambda part: part.write_text(page, encoding="utf-8"))
    return target


def _varied(folder: Folder, rows: Sequence[Mapping]) -> list[str]:
    names = dict.fromkeys(n for trial in folder.trials() for n in hyperparameters(trial.spec))
    return [name for name in names if len({str(row[name]) for row in rows}) > 1]


def _ended(folder: Folder) -> list[dict]:
    return [row for row in rows_of(folder) if row["status"] != "running"]


def _figures(
    folder: Folder, settings: Settings, rows: list[dict], searches: Mapping[str, list[dict]]
) -> Iterator[tuple[str, Figure | None]]:
    completed = [row for row in rows if row["status"] == "completed"]
    names = _varied(folder, completed)
    # A width that follows from the cardinality adds no information.
    if settings.space["budget"]:
        names = [name for name in names if name != "width_per_group"]
    yield "cardinality", pictures.accuracy_against(completed, "cardinality")
    for name in ("weight_decay", "l2"):  # the latter of a search from before there was one decay
        yield name, pictures.accuracy_against(completed, name)
    yield "importance", pictures.importance(completed, names)
    yield "parallel", pictures.parallel_coordinates(completed, names)
    yield "front", pictures.accuracy_and_speed(completed)
    yield "best_so_far", pictures.best_so_far(searches)


def _page(
    folder: Folder, settings: Settings, rows: list[dict], pngs: Mapping[str, bytes]
) -> Iterator[str]:
    best, data = best_of(rows), Path(settings.data).name
    title = html.escape(f"{settings.oracle} search of {settings.space['model']} on {data}")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{STYLE}</style><h1>{title}</h1>"
    failed = [row for row in rows if row["status"] == "failed"]
    yield f"<p>{len(rows) - len(failed)} trials completed, {len(failed)} failed.</p>"
    if best:
        recipe = (folder.path / BEST / RECIPE).read_text(encoding="utf-8")
        yield f"<h2>Best: trial {best['trial']}, top-1 {best['top1']:.2%} on held-out images</h2>"
        yield f"<pre>{html.escape(recipe)}</pre>"
        yield f"<pre>{html.escape(training_command(folder))}</pre>"
    for name, png in pngs.items():
        picture = base64.b64encode(png).decode()
        yield f'<img alt="{name}" src="data:image/png;base64,{picture}">'
    if failed:
        yield "<h2>Failed</h2><ul>"
        yield from (f"<li>{r['trial']}: {html.escape(str(r['reason']))}</li>" for r in failed)
        yield "</ul>"
    yield from _table(rows, best)
    yield "</html>"


def _table(rows: list[dict], best: Mapping | None) -> Iterator[str]:
    if not rows:
        return
    names = [name for name in rows[0] if name not in LEFT_OUT]
    yield "<h2>Trials</h2><div><table><tr>"
    yield "".join(f"<th>{html.escape(name)}</th>" for name in names) + "</tr>"
    for row in sorted(rows, key=lambda r: -1 if r["score"] is None else r["score"], reverse=True):
        kind = "best" if row is best else row["status"]
        cells = "".join(f"<td>{html.escape(_brief(row[name]))}</td>" for name in names)
        yield f'<tr class="{kind}">{cells}</tr>'
    yield "</table></div>"


def _brief(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
