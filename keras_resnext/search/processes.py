"""The processes of trials, and their shares of this machine's cores and GPUs."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from keras_resnext.search.folder import DIED, LOG, STARTED, STOPPED, TrialFolder
from keras_resnext.search.settings import Settings

TRIAL = (sys.executable, "-m", "keras_resnext.search.trial")


@dataclass
class Slot:
    """A share of the machine (cores, all if empty, and a GPU) and the trial that runs there."""

    cores: tuple[int, ...]
    gpu: str | None
    trial: TrialFolder | None = None
    lock: FileLock | None = None
    process: subprocess.Popen | None = None

    @property
    def ended(self) -> bool:
        """Return whether the process of the trial has ended."""
        return self.trial is not None and self.process.poll() is not None

    def start(self, settings: Settings) -> None:
        """Start a process for the trial."""
        self.trial.note(STARTED)
        command = [*TRIAL, str(self.trial.path)]
        if self.cores:
            command += ["--cores", ",".join(map(str, self.cores))]
        if settings.time_limit:
            command += ["--time-limit", str(settings.time_limit)]
        with open(self.trial.path / LOG, "ab") as log:
            self.process = subprocess.Popen(
                command,
                # It ends when this process does, and with it the pipe.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(settings.backend),
                start_new_session=True,  # Ctrl-C is for this process
            )

    def after(self, settings: Settings) -> None:
        """Free the slot after its process has ended, or restart the trial if it died."""
        self.process.stdin.close()
        if self.trial.result is None:
            code = self.process.returncode
            if code < 0 and -code != signal.SIGALRM:
                self.trial.note(DIED)
                if self.trial.count(DIED) < settings.attempts:
                    self.start(settings)
                    return
            reason = why_ended(code, settings.time_limit, self.trial.path / LOG)
            self.trial.finish({"status": "failed", "reason": reason})
        self.free()

    def kill(self) -> None:
        """Kill the process, if there is one, and free the slot."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.trial.note(STOPPED)
        if self.trial:
            self.free()

    def free(self) -> None:
        """Release the trial and its lock."""
        self.lock.release()
        self.trial = self.lock = self.process = None

    def _environment(self, backend: str | None) -> dict[str, str]:
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
        environment.pop("KERAS_BACKEND", None)
        if backend:
            environment["KERAS_BACKEND"] = backend
        if self.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpu
        return environment


def make_slots(workers: int) -> list[Slot]:
    """Divide the machine among simultaneous trials: by GPUs, or by cores."""
    gpus = visible_gpus()
    if gpus or workers == 1 or not hasattr(os, "sched_getaffinity"):
        return [Slot((), gpus[k % len(gpus)] if gpus else None) for k in range(workers)]
    cores = sorted(os.sched_getaffinity(0))
    return [
        Slot(tuple(cores[k::workers] or cores[k % len(cores) :][:1]), None) for k in range(workers)
    ]


def visible_gpus() -> list[str]:
    """Return CUDA's numbers of the available GPUs, without importing a framework."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name for name in names.split(",") if name not in ("", "-1")]
    # The files have the driver's numbers; CUDA counts those that exist, from 0.
    return [str(k) for k, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def why_ended(code: int, time_limit: float | None, log: Path) -> str:
    """Return why a process with an exit code (a signal below 0) has no result."""
    if code == -signal.SIGALRM:
        return f"not finished within the time limit of {time_limit:g} seconds"
    if code == -signal.SIGKILL:
        return "killed (SIGKILL): out of memory, most likely"
    if code < 0:
        return f"crashed (signal {-code}: {signal.strsignal(-code)})"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"ended with exit code {code}: {lines[-1][:300] if lines else 'without a message'}"
