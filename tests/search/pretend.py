"""A trial's process that trains nothing: the real one's, with another ``run``.

What it does follows from the trial's label smoothing, which the tests vary for that.
"""

import os
import resource
import signal
import sys
import time

from keras_resnext.search import trial

SECONDS = float(os.environ.get("PRETEND_SECONDS", "0"))


def raises():
    raise RuntimeError("planted")


def runs_out_of_memory():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return bytearray(1 << 34)


def diverges():
    raise ArithmeticError("The loss became nan in epoch 1")


FAULTS = {
    0.1: raises,
    0.2: runs_out_of_memory,
    0.3: diverges,
    0.4: lambda: time.sleep(3600),
    0.5: lambda: os.kill(os.getpid(), signal.SIGKILL),
    0.6: lambda: os._exit(3),
}


def result_of(spec):
    """The same for the same trial."""
    cardinality = spec["network"]["cardinality"]
    top1 = 0.5 + cardinality / 100 + spec["training"].get("label_smoothing", 0) / 10
    return {
        "status": "completed",
        "score": top1,
        "top1": top1,
        "spread": 0.01,
        "loss": 1 - top1,
        "images_per_second": 1000 / cardinality,
        "seconds": 1.0,
        "epochs": spec["epochs"],
    }


def run(folder):
    spec = folder.spec
    time.sleep(SECONDS)
    FAULTS.get(spec["training"].get("label_smoothing"), lambda: None)()
    for k in range(spec["executions"]):
        folder.run(k).mkdir(exist_ok=True)
        (folder.run(k) / "model.keras").write_text(f"{folder.id} {spec['previous']}")
    return result_of(spec)


def search(space, output, arguments, seconds):
    """A search of such trials, for a process of its own."""
    from rich.console import Console

    from keras_resnext.search import driver, processes
    from keras_resnext.search.space import space_from

    os.environ["PRETEND_SECONDS"] = str(seconds)
    processes.TRIAL = (sys.executable, __file__)
    with open(os.devnull, "w") as nowhere:
        driver.search(
            space_from(space), "digits", output, console=Console(file=nowhere), **arguments
        )


if __name__ == "__main__":
    trial.run = run
    sys.exit(trial.main(sys.argv[1:]))
