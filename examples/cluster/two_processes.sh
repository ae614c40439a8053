#!/usr/bin/env bash
# Two workers on this machine, as on two: to try the launch before a cluster is paid for.
# bash examples/cluster/two_processes.sh --data digits --model ResNet20 --epochs 2 --output runs/two
set -euo pipefail
export KERAS_BACKEND=jax
export KERAS_DISTRIBUTION_JOB_ADDRESSES=127.0.0.1:12355
export KERAS_DISTRIBUTION_NUM_PROCESSES=2
KERAS_DISTRIBUTION_PROCESS_ID=1 keras-resnext train --strategy multi_worker --restarts 3 "$@" &
KERAS_DISTRIBUTION_PROCESS_ID=0 keras-resnext train --strategy multi_worker --restarts 3 "$@"
wait
