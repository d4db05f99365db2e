import multiprocessing
import os
import threading
import time
from pathlib import Path

import jax
import pytest

from robust_manifold.compilation_cache import cache_folder
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import devices

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
CLUSTER_VARIABLES = [
    *SLURM,
    "SLURM_NTASKS",
    "OMPI_MCA_orte_hnp_uri",
    "JAX_NUM_PROCESSES",
    "JAX_COORDINATOR_ADDRESS",
    "TPU_PROCESS_ADDRESSES",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "JAX_COMPILATION_CACHE_DIR",
]


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The calls that `initialise` makes of JAX, which are recorded and not made."""
    for name in CLUSTER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda **kwargs: calls.append(kwargs)
    )
    monkeypatch.setattr(jax.config, "update", lambda *args: calls.append(args))
    return calls


OMPI = {
    "OMPI_MCA_orte_hnp_uri": "40960.0;tcp://10.96.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
}
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "a:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({**SLURM, "SLURM_NTASKS": "2"}, ("node1:61447", 2, 0, [0])),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),
        ({**SLURM, "SLURM_NTASKS": "2", "JAX_NUM_PROCESSES": "1"}, None),
        (OMPI, ("10.96.0.1:61450", 2, 1, [0])),
        (BY_HAND, ("a:1", 2, 1, None)),
        ({**OMPI, **BY_HAND}, ("a:1", 2, 1, None)),
    ],
)
def test_clusters_are_told_from_single_machines(environment, job, calls, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices.job_of(os.environ) == job


def test_what_jax_cannot_tell_of_a_cluster_is_one_sentence(calls, monkeypatch):
    for name, value in {**OMPI, "OMPI_MCA_orte_hnp_uri": "1.0;udp"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="cannot tell its processes .*Open MPI"):
        devices.job_of(os.environ)


def test_whoever_waits_for_others_says_so(calls, monkeypatch, caplog):
    def initialize(**options):
        time.sleep(0.2)
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(devices, "_TOLD_SECONDS", 0.01)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    for name, value in BY_HAND.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UsageError, match="process 1 of 2 has not met the others at a:1"
    ):
        devices.initialise()
    assert "waiting for 1 of 2 processes" in caplog.text


class Client:
    """Stands for the store of a job's values."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite):
        self.values[key] = value

    def key_value_dir_get(self, folder):
        return [(k, v) for k, v in self.values.items() if k.startswith(f"{folder}/")]


@pytest.fixture
def job(monkeypatch):
    """Makes this process one of two, and returns as whom what is said."""
    state, client = devices.distributed.global_state, Client()
    monkeypatch.setattr(state, "client", client)
    monkeypatch.setattr(state, "num_processes", 2)
    monkeypatch.setattr(devices, "_JOINED", threading.Event())
    devices._JOINED.set()
    return lambda number: monkeypatch.setattr(state, "process_id", number)


def test_a_signal_is_heard_in_all_processes(job):
    job(1)
    devices.tell(15)
    job(0)
    assert devices.heard() == 15


def test_nothing_is_asked_of_a_job_that_is_not_joined_yet(job):
    # JAX has a client before that is connected, and aborts a process that asks it.
    job(1)
    devices.tell(15)
    devices._JOINED.clear()
    assert devices.heard() == 0
    devices.tell(2)
    devices._JOINED.set()
    assert devices.heard() == 15


def test_a_process_that_gives_no_sign_of_life_is_lost(job):
    ours, theirs = devices.Watch(), devices.Watch()
    for second in range(30):
        job(1)
        assert theirs.lost(float(second)) is None
        job(0)
        assert ours.lost(float(second)) is None
    lost = [second for second in range(30, 60) if ours.lost(float(second))]
    assert lost[0] <= 30 + 21
    assert ours.lost(60.0) == "process 1 of 2 gives no sign of life"


def test_a_process_that_ends_before_its_first_sign_is_lost(job):
    job(0)
    ours = devices.Watch()
    lost = [second for second in range(60) if ours.lost(float(second))]
    assert 20 < lost[0] <= 21
    assert ours.lost(60.0) == "process 1 of 2 gives no sign of life"


def test_a_mistake_in_one_process_ends_the_others(job, monkeypatch):
    monkeypatch.setattr(devices.atexit, "register", lambda *given: None)
    job(1)
    devices.abandon("a sentence", 2)
    job(0)
    assert devices.Watch().lost(0.0) == "process 1 of 2 has ended: a sentence"


def test_half_a_cluster_is_refused():
    environment = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two"}
    with pytest.raises(UsageError, match="JAX_NUM_PROCESSES is 'two'; allowed"):
        devices.job_of(environment)


def test_a_process_beyond_the_last_is_refused():
    environment = {
        "JAX_COORDINATOR_ADDRESS": "a:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "2",
    }
    with pytest.raises(UsageError, match="JAX_PROCESS_ID is 2; allowed: 0 to 1"):
        devices.job_of(environment)
    environment["JAX_NUM_PROCESSES"] = "0"
    with pytest.raises(UsageError, match="JAX_NUM_PROCESSES is '0'; allowed: 1 or"):
        devices.job_of(environment)


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
def test_a_platform_without_devices_is_named(calls, monkeypatch, kind):
    def fail():
        raise kind("no device")

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UsageError, match="JAX_PLATFORMS is 'cuda', and no device"):
        devices.initialise()


def test_a_single_machine_gets_the_cache_alone(calls, tmp_path):
    devices.initialise()
    folder = tmp_path / "robust_manifold" / "xla"
    assert folder.is_dir()
    assert calls[0] == ("jax_compilation_cache_dir", str(folder))
    assert all(isinstance(call, tuple) for call in calls)


def test_a_cluster_is_joined_first(calls, monkeypatch):
    for name, value in {**SLURM, "SLURM_NTASKS": "2"}.items():
        monkeypatch.setenv(name, value)
    devices.initialise()
    joined = [call for call in calls if isinstance(call, dict)]
    assert len(joined) == 1 and joined[0]["num_processes"] == 2
    # SIGTERM stays ours.
    assert calls[0] == ("jax_enable_preemption_service", False)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(devices, "_JOINED", threading.Event())
    calls.clear()
    devices.initialise()
    assert devices._JOINED.is_set()
    assert not [call for call in calls if isinstance(call, dict)]


def test_a_worker_process_does_nothing(calls, monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a parent")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "a:1")
    devices.initialise()
    assert calls == []


def test_the_cache_can_be_switched_off_or_placed(calls, monkeypatch, tmp_path):
    devices.initialise(compilation_cache=False)
    assert calls == [("jax_enable_compilation_cache", False)]
    calls.clear()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    devices.initialise()
    assert "jax_compilation_cache_dir" not in [name for name, _ in calls]


def test_a_home_that_cannot_be_written_costs_the_cache_alone(
    calls, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    devices.initialise()
    assert calls == []


def test_the_cache_is_in_the_home_by_default():
    expected = Path.home() / ".cache" / "robust_manifold" / "xla"
    assert cache_folder({}) == expected


def test_one_process_agrees_with_itself():
    assert devices.is_primary()
    assert devices.agreed(True) and not devices.agreed(False)
    assert devices.any_process(True) and not devices.any_process(False)
    devices.barrier("here")


def test_describe():
    described = devices.describe()
    assert described["platform"] == jax.default_backend()
    assert described["devices"] == jax.device_count()
    assert described["processes"] == 1
    assert 1 <= described["cores"] <= os.cpu_count()
