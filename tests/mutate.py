"""Break one line at a time, and see whether a test fails.

    python tests/mutate.py                 # all of them
    python tests/mutate.py data training   # those of some parts
    python tests/mutate.py --workers 2

It works in a copy of the tree and prints a line per mutation. The exit code is 1 if one survived.
"""

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import pkgutil
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import mutations

ROOT = pathlib.Path(__file__).resolve().parents[1]
COPIED = ("keras_resnext", "tests", "tuning", "examples", "benchmarks", "setup.cfg", "README.md")
SECONDS = 300


def main():
    """Run the mutations that the command line names."""
    parts = [module.name for module in pkgutil.iter_modules(mutations.__path__)]
    parts = [name for name in parts if not name.startswith("_")]
    parser = argparse.ArgumentParser(description="Break one line at a time; a test must fail.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {', '.join(parts)}")
    parser.add_argument("--workers", type=int, default=1, help="mutations at a time")
    options = parser.parse_args()
    rows = [
        (part, row)
        for part in options.parts or parts
        for row in importlib.import_module(f"mutations.{part}").MUTATIONS
    ]
    for _, row in rows:
        check_applies(row)
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        killed = list(pool.map(lambda row: tell(*row), rows))
    print(f"{sum(killed)} of {len(rows)} mutations were noticed by a test")
    return 0 if all(killed) else 1


def check_applies(row):
    """Raise a ValueError unless the text of a mutation stands in its file exactly once."""
    count = (ROOT / row.file).read_text().count(row.old)
    if count != 1:
        raise ValueError(f"{row.file} has {count} times the text {row.old!r}. Expected it once.")


def tell(part, row):
    """Run a mutation, print what came of it, and return whether a test failed."""
    start = time.monotonic()
    verdict = run(row)
    line = row.old.strip().splitlines()[0]
    print(f"{verdict:9} {time.monotonic() - start:5.0f} s  {part}: {row.file}: {line}", flush=True)
    return verdict == "noticed"


def run(row):
    """Return "noticed" or "survived" for a mutation, or "broken" if its tests did not run."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = pathlib.Path(folder)
        for name in COPIED:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tree / name)
        path = tree / row.file
        path.write_text(path.read_text().replace(row.old, row.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": folder}
        try:
            code = subprocess.run(
                [*command, *shlex.split(row.tests)],
                cwd=tree,
                env=environment,
                capture_output=True,
                timeout=SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            return "noticed"
    # pytest's exit codes: 0 all passed, 1 some failed, 2 could not be collected
    return {0: "survived", 1: "noticed", 2: "noticed"}.get(code, "broken")


if __name__ == "__main__":
    sys.exit(main())
