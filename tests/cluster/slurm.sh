#!/usr/bin/env bash
# Jobs of a real SLURM, whose controller and one node run here for as long as this does:
# the scripts of cluster/ and of `sweep`, as a user submits them.
#
#   slurm.sh [--install] [SCENARIO ...]    by default all of them
#
# It is skipped, with the reason, where SLURM or a right that its daemons need is missing;
# --install fetches Debian's packages first. KEEP=1 leaves logs and runs where they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
scenarios=(array submitted preempted signalled killed sweep)

skip() { echo "skipped: $1"; exit 0; }
if [ "${1:-}" = --install ]; then
  shift
  command -v slurmctld slurmd munged >/dev/null || {
    apt-get update && apt-get install --yes --no-install-recommends slurmctld slurmd slurm-client munge
  } >/dev/null
fi
test "$(id -u)" = 0 || skip "the daemons of SLURM are started as root"
for program in slurmctld slurmd munged sbatch srun; do
  command -v $program >/dev/null || skip "no $program here (Debian: slurmctld slurmd slurm-client munge)"
done

work=$(mktemp -d /tmp/robust_manifold_slurm.XXXX)
node=$(hostname -s)
daemons=()
end() {
  code=$?
  trap - EXIT
  squeue --noheader --format=%A 2>/dev/null | xargs --no-run-if-empty scancel || true
  for _ in $(seq 100); do
    test -z "$(squeue --noheader 2>/dev/null)" && break
    sleep 0.5
  done
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
  exit $code
}
trap end EXIT
trap 'exit 130' INT TERM

# Ports that are free, two of them together so that they differ.
read -r controller daemon < <(python3 - <<'PY'
import socket
both = [socket.socket() for _ in range(2)]
for each in both:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in both))
PY
)
cat >"$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
# A job that is requeued waits until what it was allowed by has expired.
AuthInfo=socket=$work/munge,cred_expire=5
CredType=cred/munge
SlurmctldPort=$controller
SlurmdPort=$daemon
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=20
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=off
CONF
export SLURM_CONF=$work/slurm.conf
mkdir "$work/state" "$work/spool"
(umask 077 && head --bytes=1024 /dev/urandom >"$work/key")
# In sessions of their own, so that what ends this script leaves them to end their jobs.
setsid munged --foreground --force --key-file="$work/key" --socket="$work/munge" \
  --pid-file="$work/munge.pid" --log-file="$work/munge.log" --seed-file="$work/seed" \
  >"$work/munge.out" 2>&1 &
daemons+=($!)
setsid slurmctld -D >"$work/slurmctld.out" 2>&1 &
daemons+=($!)
setsid slurmd -D -N "$node" >"$work/slurmd.out" 2>&1 &
daemons+=($!)
for _ in $(seq 100); do
  test "$(sinfo --noheader --partition=all --format=%t 2>/dev/null)" = idle && break
  sleep 0.3
done
test "$(sinfo --noheader --partition=all --format=%t)" = idle || { tail "$work"/*.out "$work"/*.log; exit 1; }
echo "SLURM $(sinfo --version | cut -d' ' -f2) has one idle node"

# A training that takes some seconds, and is looked at while it does.
cat >"$work/mine.py" <<PY
import sys

sys.path.append("$root/experiments")
import tiny


def get_config():
    config = tiny.get_config()
    config.stages = ("fit_classifier",)
    config.classifier.duration = "600 steps"
    config.training.log_every = 1
    return config


def sweep():
    for seed in range(2):
        yield {"seed": seed}
PY
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} JAX_PLATFORMS=cpu PATH=$root/.venv/bin:$PATH
cp "$root/cluster/slurm.sbatch" "$work"
cd "$work"

failed() {
  echo "failed: $1"
  tail -n 40 slurm-*.out slurmctld.out
  exit 1
}
begun() { # FOLDER: waits until its training is under way
  for _ in $(seq 1500); do
    # What is given may be a pattern.
    test -s "$(echo $1/metrics.jsonl)" && return
    sleep 0.2
  done
  failed "$1 has not begun"
}
gone() { # JOB: waits for its end, requeued or not
  for _ in $(seq 1200); do
    test -z "$(squeue --noheader --job="$1" 2>/dev/null)" && return
    sleep 0.5
  done
  failed "job $1 does not end"
}
is_finished() { grep -q '"state": "finished"' "$1/status.json"; }
finished() { # FOLDER...
  for folder; do
    is_finished "$folder" || failed "$folder has not finished"
  done
}
same() { # FOLDER FOLDER: equal parameters, whatever happened on the way
  python - "$@" <<'PY' || failed "$1 and $2 differ"
import sys
import jax, numpy as np
from robust_manifold.runtime import load_params
one, other = (jax.tree.leaves(load_params(f"{run}/checkpoints/classifier/params")) for run in sys.argv[1:])
assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
PY
}
code_is() { # JOB CODE
  scontrol show job "$1" | grep -q "ExitCode=$2:0" || failed "job $1 has not ended with code $2"
}
array() {
  echo "array: two runs, of which one is told to end, and goes on by itself"
  python -m robust_manifold.sweep --config=mine.py --launcher=print >array.sbatch
  job=$(sbatch --parsable array.sbatch)
  begun runs/mine-seed=1
  scancel --signal=TERM "${job}_1"
  gone "$job"
  finished runs/mine-seed=0 runs/mine-seed=1
  grep -q "SIGTERM: saving and stopping" slurm-"${job}"_1.out || failed "no signal was heard"
}
submitted() {
  echo "submitted: an array by submitit, of which one is told to end, and goes on by itself"
  python -c 'import submitit' 2>/dev/null || { echo "  skipped: no submitit here"; return; }
  for number in TERM USR2; do
    mkdir $number
    (cd $number && python -m robust_manifold.sweep --config=../mine.py --launcher=slurm) 2>log || {
      cat log
      failed "the array is not submitted"
    }
    job=$(grep -o 'job [0-9]*_1' log | cut -d' ' -f2)
    begun $number/runs/mine-seed=1
    scancel --signal=$number "$job"
    gone "${job%_1}"
    finished $number/runs/mine-seed=0 $number/runs/mine-seed=1
    grep -qh "SIG$number: saving and stopping" $number/runs/slurm/*_1*.err || failed "no signal was heard"
  done
}
preempted() {
  echo "preempted: an urgent job takes the node, and the runs of an array go on after it"
  python -m robust_manifold.sweep --config=mine.py --launcher=print >array.sbatch
  mkdir -p elsewhere && cp mine.py array.sbatch elsewhere
  job=$(cd elsewhere && sbatch --parsable array.sbatch)
  begun elsewhere/runs/mine-seed=0
  begun elsewhere/runs/mine-seed=1
  sbatch --parsable --partition=urgent --ntasks=2 --wrap="sleep 1" >urgent
  gone "$(cat urgent)"
  code_is "$(cat urgent)" 0
  is_finished elsewhere/runs/mine-seed=0 && failed "nothing was preempted"
  gone "$job"
  finished elsewhere/runs/mine-seed=0 elsewhere/runs/mine-seed=1
  for seed in 0 1; do
    test ! -d runs/mine-seed=$seed || same {,elsewhere/}runs/mine-seed=$seed
  done
  grep -q "SIGTERM: saving and stopping" elsewhere/slurm-"${job}"_0.out || failed "no signal was heard"
}
two() { sbatch --parsable --nodes=1 --ntasks-per-node=2 --time=10 slurm.sbatch mine.py --workdir="$1"; }
signalled() {
  echo "signalled: two processes end by a signal to their job, and the same command goes on"
  job=$(two signalled)
  begun signalled
  scancel --signal=USR1 "$job"
  gone "$job"
  code_is "$job" 138
  gone "$(two signalled)"
  finished signalled
}
killed() {
  echo "killed: of two processes one is killed, the other ends, and the same command goes on"
  job=$(two killed)
  begun killed
  # Of the second process; the columns are PID, job, step, local and global number.
  victim=$(scontrol listpids "$job" | awk '$3 == "0" && $4 == "1" { print $1; exit }')
  kill -KILL "$victim"
  gone "$job"
  is_finished killed && failed "a job with a dead process finished"
  gone "$(two killed)"
  finished killed
  test ! -d signalled || same signalled killed
}
sweep() {
  echo "sweep: six runs here, and six in an array of which one is killed, give one table"
  mkdir -p here there
  python - <<'PY'
from pathlib import Path

from tests.support import CONFIG, write_digits

SWEEP = '''
def sweep():
    for seed in range(3):
        for loss in ("wgan_gp", "hinge"):
            training = f"gan(loss='{loss}', discriminator=dcgan_discriminator(width=2))"
            yield {"seed": seed, "generator.training": training}
'''
stages = '    config.stages = ("fit_classifier", "fit_generator", "attack", "evaluate")'
text = CONFIG.format(data=Path("digits.npz").resolve())
write_digits(Path("digits.npz"))
Path("six.py").write_text(text.replace("    return config", f"{stages}\n    return config") + SWEEP)
PY
  (cd here && python -m robust_manifold.sweep --config="$work/six.py") >here/log 2>&1 || {
    cat here/log
    failed "a run of the sweep"
  }
  cd there
  python -m robust_manifold.sweep --config="$work/six.py" --launcher=print >array.sbatch
  job=$(sbatch --parsable array.sbatch)
  begun "runs/six-*wgan_gp*seed=0-*"
  task=$(squeue --noheader --job="${job}_0" --format=%A)
  victim=$(scontrol listpids "$task" | awk '$3 == "0" { print $1; exit }')
  kill -KILL "$victim"
  gone "$job"
  # It alone has failed; the same task again goes on.
  gone "$(sbatch --parsable --array=0 array.sbatch)"
  cd ..
  for side in here there; do
    test "$(ls -d $side/runs/six-* | wc -l)" = 6 || failed "$side has not six runs"
    finished $side/runs/six-*
    (cd $side && python -m robust_manifold.collect runs/six-* --output=collected) >/dev/null
  done
  diff {here,there}/collected/accuracy.csv || failed "the tables differ"
}
for scenario in "${@:-${scenarios[@]}}"; do
  SECONDS=0
  $scenario
  echo "  as it should be, in $SECONDS s"
done
