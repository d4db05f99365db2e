import multiprocessing
import os
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
}
CLUSTER_VARIABLES = [
    *SLURM,
    "SLURM_NTASKS",
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


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, None),
        ({**SLURM, "SLURM_NTASKS": "2"}, {}),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, {}),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "a:1",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": "1",
            },
            {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1},
        ),
    ],
)
def test_clusters_are_told_from_single_machines(environment, arguments):
    assert devices.cluster_arguments(environment) == arguments


def test_half_a_cluster_is_refused():
    environment = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two"}
    with pytest.raises(UsageError, match="JAX_NUM_PROCESSES is 'two'; allowed"):
        devices.cluster_arguments(environment)


def test_a_process_beyond_the_last_is_refused():
    environment = {
        "JAX_COORDINATOR_ADDRESS": "a:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "2",
    }
    with pytest.raises(UsageError, match="JAX_PROCESS_ID is 2; allowed: 0 to 1"):
        devices.cluster_arguments(environment)


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
    assert calls[0] == {}
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    calls.clear()
    devices.initialise()
    assert {} not in calls


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
