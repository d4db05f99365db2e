"""The devices and processes of a job, and the cache of its compiled programs."""

import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from robust_manifold.compilation_cache import enable_compilation_cache
from robust_manifold.core.errors import UsageError

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")


def initialise(*, compilation_cache: bool = True) -> None:
    """Joins the cluster, if there is one, and switches the compilation cache on.

    Call it before any array is made.  `jax.distributed` is started when the
    environment names a cluster (see `cluster_arguments`), never otherwise, and
    never in a data loader's worker process.

    Args:
      compilation_cache: keep compiled programs, as `enable_compilation_cache` does.

    Raises:
      UsageError: if the environment names a cluster by halves, or a platform of
        which no device can be used.
    """
    if multiprocessing.parent_process() is not None:
        return
    arguments = cluster_arguments(os.environ)
    if arguments is not None and not jax.distributed.is_initialized():
        jax.distributed.initialize(**arguments)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        # JAX asserts, or raises, according to what is wrong with the platform.
        raise UsageError(
            f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}, and no device "
            f"of it can be used ({type(error).__name__}); allowed: cpu, or what is "
            "installed here."
        ) from None
    if not compilation_cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    enable_compilation_cache()


def cluster_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments of `jax.distributed.initialize`; None without a cluster.

    A cluster is: `JAX_COORDINATOR_ADDRESS` with `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`; a SLURM step of several tasks; or a TPU pod of several hosts.
    JAX itself finds out the arguments of the last two.

    Raises:
      UsageError: if one of the three JAX variables is missing or not a number.

    >>> cluster_arguments({}) is None
    True
    """
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        count = _number(environment, "JAX_NUM_PROCESSES")
        process = _number(environment, "JAX_PROCESS_ID")
        if process >= count:
            raise UsageError(
                f"JAX_PROCESS_ID is {process}; allowed: 0 to {count - 1}, one less "
                "than JAX_NUM_PROCESSES."
            )
        return {
            "coordinator_address": environment["JAX_COORDINATOR_ADDRESS"],
            "num_processes": count,
            "process_id": process,
        }
    slurm = all(name in environment for name in _SLURM)
    if slurm and environment["SLURM_NTASKS"] != "1":
        return {}
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
        "TPU_WORKER_HOSTNAMES", ""
    )
    if "," in hosts or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return {}
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise UsageError(
            f"{name} is {value!r}; allowed beside JAX_COORDINATOR_ADDRESS: a number."
        )
    return int(value)


def is_primary() -> bool:
    """Returns whether this process is the one that writes and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def agreed(value: bool) -> bool:
    """Returns the first process's `value` in every process of the job."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def any_process(value: bool) -> bool:
    """Returns whether `value` holds in any process of the job."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return value
    return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


def barrier(name: str) -> None:
    """Waits until every process of the job has come here."""
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def describe() -> dict[str, Any]:
    """Returns platform, kind and number of the devices, processes and CPU cores."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "local_devices": jax.local_device_count(),
        "processes": jax.process_count(),
        "cores": _cores(),
    }


def _cores() -> int | None:
    """Returns how many CPU cores this process may use, where that can be told."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
