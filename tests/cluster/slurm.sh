#!/usr/bin/env bash
# Jobs of a real SLURM, whose controller and one node run here, as root: an array that is
# stopped and requeued, two processes, and a signal to them. The programs are Debian's.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$PWD/.venv/bin/python
test "$(id -u)" = 0 || { echo "test-cluster starts SLURM's daemons, as root alone may" >&2; exit 2; }
command -v slurmctld slurmd sbatch munged >/dev/null ||
  apt-get install --yes --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null

work=$(mktemp -d /tmp/robust_manifold_slurm.XXXX)
port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
cat >"$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge
CredType=cred/munge
SlurmctldPort=$(port)
SlurmdPort=$(port)
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
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf
mkdir "$work/state" "$work/spool"
dd if=/dev/urandom of="$work/key" bs=1024 count=1 status=none
chmod 400 "$work/key"
daemons=()
end() {
  squeue --noheader --format=%A 2>/dev/null | xargs --no-run-if-empty scancel && sleep 2
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  test -n "${KEEP:-}" || rm -rf "$work"
}
trap end EXIT
munged --foreground --force --key-file="$work/key" --socket="$work/munge" \
  --pid-file="$work/munge.pid" --log-file="$work/munge.log" --seed-file="$work/seed" &
daemons+=($!)
slurmctld -D >"$work/slurmctld.out" 2>&1 &
daemons+=($!)
slurmd -D -N "$(hostname -s)" >"$work/slurmd.out" 2>&1 &
daemons+=($!)
for _ in $(seq 100); do
  test "$(sinfo --noheader --format=%t 2>/dev/null)" = idle && break
  sleep 0.3
done
test "$(sinfo --noheader --format=%t)" = idle || { cat "$work"/*.out "$work"/*.log; exit 1; }
echo "SLURM $(sinfo --version | cut -d' ' -f2) has one idle node"

cat >"$work/mine.py" <<PY
import sys

sys.path.append("$PWD/experiments")
import tiny


def get_config():
    config = tiny.get_config()
    config.stages = ("fit_classifier",)
    config.classifier.duration = "600 steps"
    return config


def sweep():
    for seed in range(2):
        yield {"seed": seed}
PY
export PYTHONPATH=$PWD JAX_PLATFORMS=cpu PATH=$PWD/.venv/bin:$PATH
cp cluster/slurm.sbatch "$work"
cd "$work"
failed() { echo "failed: $1"; tail -n 40 slurm-*.out; cat slurmctld.out; exit 1; }
begun() { # FOLDER: waits until its training is under way
  for _ in $(seq 600); do test -s "$1/metrics.jsonl" && return; sleep 0.5; done
  failed "$1 has not begun"
}
gone() { # JOB: waits for its end, requeued or not
  for _ in $(seq 1200); do
    test -z "$(squeue --noheader --job="$1" 2>/dev/null)" && return
    sleep 0.5
  done
  failed "job $1 does not end"
}
finished() { grep -q '"state": "finished"' "$1/status.json" || failed "$1 has not finished"; }

echo "an array of two runs, of which one is stopped and goes on"
python -m robust_manifold.sweep --config=mine.py --launcher=print >array.sbatch
job=$(sbatch --parsable array.sbatch)
begun runs/mine-seed=1
scancel --signal=TERM "${job}_1"
gone "$job"
finished runs/mine-seed=0
finished runs/mine-seed=1
grep -q "SIGTERM: saving and stopping" slurm-"${job}"_1.out || failed "no signal was heard"

echo "two processes, all ended by a signal to the job, and the same command goes on"
submit() { sbatch --parsable --nodes=1 --ntasks-per-node=2 --time=10 slurm.sbatch mine.py --workdir=two; }
job=$(submit)
begun two
scancel --signal=USR1 "$job"
gone "$job"
scontrol show job "$job" | grep -q "ExitCode=138:0" || failed "the job's code is not 138"
job=$(submit)
gone "$job"
finished two

echo "of two processes one is killed, and the other ends"
rm -r two
job=$(submit)
begun two
victim=$(pgrep --full "robust_manifold.main --config=mine.py --workdir=two" --newest)
kill -KILL "$victim"
gone "$job"
grep -q '"state": "finished"' two/status.json && failed "a job with a dead process finished"
echo "SLURM: all as it should be"
