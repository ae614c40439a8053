"""What a search is worth: the found network against the default of the same cost, and luck.

    python benchmarks/search.py --data FOLDER --output runs/search

On a part of the training images (10,000 of CIFAR-10's, say), a search over `tuning/cifar10.py` and
a random one spend the same number of epochs. Then what each has found and the default, all of the
same multiply-adds within 5 %, are trained on that part three times, from other seeds, for the same
number of epochs, and measured on test images that no search has seen. Everything is kept in the
output's folder: killed and started again, it goes on.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from common import machine, print_table, write_part

from keras_resnext.search.space import load_space
from keras_resnext.training.recipe import changes
from keras_resnext.training.recipes import get_recipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "keras_resnext")


def main():
    options = arguments()
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    data = output / "part.npz"
    if not data.exists():
        write_part(options.data, options.image_size, data, options.images)
    found = run_search(options, data, options.oracle, options.trials)
    trials = -(-epochs_spent(found) // options.epochs)
    run_search(options, data, "random", trials, "--compare", found)
    recipes = {
        options.oracle: json.loads((found / "best/recipe.json").read_text()),
        "random": json.loads((output / "random/best/recipe.json").read_text()),
        "default": changes(default_of(options)),
    }
    rows = [measure(options, data, name, recipe) for name, recipe in recipes.items()]
    columns = list(rows[0])
    print_table("mean test top-1", columns, [[row[name] for name in columns] for row in rows])
    result = {"machine": machine(), "epochs": epochs_spent(found), "rows": rows}
    path = output / "search.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Saved in {path}")


def default_of(options):
    """The network that was not searched, by the default recipe, with the space's schedule."""
    schedule = load_space(options.space).training.schedule
    return get_recipe("sgd").replace(
        model=options.model, network=options.network, schedule=schedule
    )


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, help="a folder with train/ and test/, as of CIFAR-10")
    add("--output", type=pathlib.Path, default=pathlib.Path("runs/search"))
    add("--space", type=pathlib.Path, default=ROOT / "tuning/cifar10.py")
    add("--model", default="ResNeXt35", help="the default, of the space's budget")
    add("--network", type=json.loads, default={}, help="fields of its configuration, as JSON")
    add("--oracle", default="bayesian", choices=("bayesian", "hyperband", "grid"))
    add("--images", type=int, default=10_000, help="training images that are used")
    add("--image-size", type=int, default=32)
    add("--trials", type=int, default=20, help="none with hyperband")
    add("--epochs", type=int, default=8, help="of a trial")
    add("--final-epochs", type=int, default=16, help="of what is compared in the end")
    add("--seeds", type=int, default=3)
    add("--workers", type=int, default=2)
    return parser.parse_args()


def run_search(options, data, oracle, trials, *more):
    """Search, or resume the search; return its folder."""
    folder = options.output / oracle
    command = [*COMMAND, "tune", "--space", options.space, "--data", data, "--output", folder]
    command += ["--oracle", oracle, "--epochs", options.epochs, "--workers", options.workers]
    command += ["--image-size", options.image_size, *more]
    if oracle != "hyperband":
        command += ["--trials", trials]
    subprocess.run(list(map(str, command)), check=True)
    return folder


def epochs_spent(folder):
    """Of all trials of a search."""
    results = (json.loads(p.read_text()) for p in folder.glob("trials/*/result.json"))
    return sum(result.get("epochs") or 0 for result in results)


def measure(options, data, name, recipe):
    """Train a recipe from several seeds; the mean accuracy on the test part and its spread."""
    path = options.output / f"{name}.json"
    path.write_text(json.dumps({**recipe, "epochs": options.final_epochs}, indent=2))
    summaries = []
    for seed in range(options.seeds):
        run = options.output / "final" / f"{name}-{seed}"
        if not (run / "summary.json").exists():
            command = [*COMMAND, "train", "--recipe", path, "--seed", 100 + seed]
            command += ["--data", data, "--image-size", options.image_size]
            command += ["--output", run, "--resume"]
            subprocess.run(list(map(str, command)), check=True)
        summaries.append(json.loads((run / "summary.json").read_text()))
    top1 = [100 * summary["test_top1"] for summary in summaries]
    return {
        "what": name,
        "top-1 (%)": statistics.mean(top1),
        "deviation": statistics.stdev(top1) if len(top1) > 1 else 0.0,
        "M multiply-adds": summaries[0]["macs"] / 1e6,
        "parameters": summaries[0]["parameters"],
    }


if __name__ == "__main__":
    main()
