#!/bin/bash
# flux: --job-name=gpt
# flux: --nodes=4
# flux: --nslots=32
# flux: --cores-per-slot=12
# flux: --gpus-per-slot=1
# flux: --time-limit=7200s
# flux: --output=/home/me/project/runs/a/launch-{{id}}.log
# flux: --env=-*
# flux: --env=HOME
# flux: --env=PATH
# Written by `tutti launch`. Submitted again, it continues from the last checkpoint: flux batch /home/me/project/runs/a/launch.flux
cd -- /home/me/project || exit 1
# The supervisor replaces the shell, to receive the scheduler's signals.
exec /home/me/tutti/build/release/bin/tutti launch --nodes 4 --ranks-per-node 8 --gpus-per-node 8 --cores-per-rank 12 --restarts 3 --time 7200s --grace 60s --batch --dir /home/me/project/runs/a train run.yaml
