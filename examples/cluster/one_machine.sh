#!/usr/bin/env bash
# All GPUs of this machine, one copy of the weights each; batch norms see the whole batch.
set -euo pipefail
keras-resnext train --recipe e2 --data "$1" --strategy mirrored --output runs/e2
