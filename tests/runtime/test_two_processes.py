"""One job of two processes on this machine, as a cluster runs it."""

import os
import socket
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from robust_manifold.runtime import *

devices.initialise(compilation_cache=False)
devices.initialise(compilation_cache=False)
me = jax.process_index()
assert jax.process_count() == 2 and devices.is_primary() == (me == 0)
assert devices.describe()["devices"] == 2
assert devices.agreed(me == 0) and not devices.agreed(me == 1)

path = sys.argv[1] + "/run"
with RunFolder.open(path, {"a": 1}, command=[], primary=me == 0) as run:
    assert not run.has("a.npz")
    run.write_npz("a.npz", {"a": np.full(3, me)})
    assert run.has("a.npz")
    assert run.read_npz("a.npz")["a"].tolist() == [0, 0, 0]
    run.finish_stage("fit", ["a.npz"])
    assert run.stage_done("fit") and not run.stage_done("attack")

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    values = np.arange(4.0, dtype=np.float32)
    place = lambda s: jax.make_array_from_callback((4,), s, lambda i: values[i])
    state = {"split": place(split), "whole": place(whole), "local": jnp.ones(2)}
    checkpoints = Checkpoints(path + "/checkpoints/g", best="score")
    for step in (1, 2, 3):
        checkpoints.save(step, state, {"score": step})
    assert checkpoints.best.step == checkpoints.last.step == 3
    step, back = checkpoints.restore(state)
    assert step == 3 and back["split"].sharding == split
    assert float(jax.jit(lambda s: s["split"] @ s["whole"])(back)) == 14
    save_params(path + "/params", {"w": state["whole"]}, {})
    assert load_params(path + "/params")["w"].tolist() == [0, 1, 2, 3]

    with GracefulStop() as stop:
        assert not stop.requested
        if me == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
devices.barrier("end")
print("well", flush=True)
"""


def _job(*arguments):
    """Returns the exit code and the output of each of two processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for number in range(2):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        environment.pop("XLA_FLAGS", None)
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    try:
        # When one fails, the other would wait for it.
        outputs = [
            process.communicate(timeout=600)[0].decode() for process in processes
        ]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def test_two_processes_share_a_run(tmp_path):
    codes, outputs = _job(CODE, str(tmp_path))
    assert codes == [0, 0], "\n".join(outputs)
    assert all("well" in output for output in outputs)


ENDING = """
import os, signal, sys, time
import jax
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import *

for number in GracefulStop.SIGNALS:
    signal.signal(number, signal.SIG_DFL)
kind, path = sys.argv[1:]
with GracefulStop():
    devices.initialise(compilation_cache=False)
    me = jax.process_index()
    if kind == "folder":
        try:
            RunFolder.open(f"{path}/{me}", {}, command=[], primary=me == 0)
        except UsageError as error:
            print(error)
            sys.exit(2)
    devices.barrier("begun")
    if me == 1 and kind == "mistake":
        devices.abandon("a sentence", 2)
        sys.exit(2)
    if me == 1:
        os.kill(os.getpid(), getattr(signal, kind))
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("kind", "codes", "words"),
    [
        ("folder", [2, 2], "where process 1 of the job cannot see what process 0"),
        ("SIGUSR1", [138, 138], "ended within a long computation"),
        pytest.param(
            *("mistake", [1, 2], "process 1 of 2 has ended: a sentence"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("SIGKILL", [1, -9], "process 1 of 2 gives no sign of life"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_processes_end_as_one_of_them_does(kind, codes, words, tmp_path):
    found, outputs = _job(ENDING, kind, str(tmp_path))
    assert found == codes, "\n".join(outputs)
    assert words in outputs[0]
