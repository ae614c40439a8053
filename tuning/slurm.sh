#!/bin/bash
# A search on as many GPUs as the array has jobs:
#
#   sbatch tuning/slurm.sh
#
# Every job works on the same folder. A job that is preempted or fails with its node is put back
# into the queue and goes on; more of them can be started at any time.
#SBATCH --job-name=keras-resnext-tune
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
#SBATCH --output=%x-%A-%a.log

# On a file system that all nodes share:
OUTPUT=${OUTPUT:-$HOME/runs/tune-imagenet}
DATA=${DATA:-$HOME/data/imagenet}
SPACE=${SPACE:-tuning/imagenet.py}

exec keras-resnext tune --space "$SPACE" --data "$DATA" --output "$OUTPUT" \
    --oracle hyperband --epochs 90 --workers 1
