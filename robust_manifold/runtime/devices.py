"""The devices and processes of a job, and the cache of its compiled programs."""

import atexit
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# The job's client, and what clusters JAX detects, have no public names.
from jax._src import distributed
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils

from robust_manifold.compilation_cache import enable_compilation_cache
from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import console

_TOLD_SECONDS = 10.0
"""Of waiting for the other processes, before it is told."""
_LOST_SECONDS = 20.0
"""After which a process that gives no sign of life counts as ended."""
_JOINED = threading.Event()
"""Set once this process has met the others."""


class Job(NamedTuple):
    """The processes that work together, as `jax.distributed.initialize` takes them."""

    coordinator_address: str
    num_processes: int
    process_id: int
    local_device_ids: Sequence[int] | None = None


def initialise(*, compilation_cache: bool = True) -> None:
    """Joins the cluster, if there is one, and switches the compilation cache on.

    Call it before any array is made.  `jax.distributed` is started when the
    environment names a cluster (see `job_of`), never otherwise, and never in a data
    loader's worker process.

    Args:
      compilation_cache: keep compiled programs, as `enable_compilation_cache` does.

    Raises:
      UsageError: if the environment names a cluster by halves, if its processes do
        not come together, or for a platform of which no device can be used.
    """
    if multiprocessing.parent_process() is not None:
        return
    if not jax.distributed.is_initialized() and (job := job_of(os.environ)):
        _join(job)
    if jax.distributed.is_initialized():
        _JOINED.set()
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


def job_of(environment: Mapping[str, str]) -> Job | None:
    """Returns the job that this process is one of; None where it is alone.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say so, or else
    whatever cluster JAX detects: SLURM, Open MPI, Kubernetes, a TPU pod.

    Raises:
      UsageError: if one of the three variables is missing or not a number, or if JAX
        cannot tell the processes of the cluster that it detects.
    """
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        count = _number(environment, "JAX_NUM_PROCESSES")
        process = _number(environment, "JAX_PROCESS_ID")
        if not count:
            raise UsageError("JAX_NUM_PROCESSES is '0'; allowed: 1 or more.")
        if process >= count:
            raise UsageError(
                f"JAX_PROCESS_ID is {process}; allowed: 0 to {count - 1}, one less "
                "than JAX_NUM_PROCESSES."
            )
        return Job(environment["JAX_COORDINATOR_ADDRESS"], count, process)
    if environment.get("JAX_NUM_PROCESSES") == "1":
        return None
    try:
        address, count, process, devices = (
            ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, None, 60
            )
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise UsageError(
            "JAX detects a cluster, and cannot tell its processes "
            f"({' '.join(str(error).split())}); allowed: JAX_NUM_PROCESSES=1 for a "
            "process by itself, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID."
        ) from None
    if address is None or process is None or (count or 1) == 1:
        return None
    return Job(address, count or 1, process, devices)


def _join(job: Job) -> None:
    """Waits for all processes of a job."""
    # It would take SIGTERM from `GracefulStop`, which hears other signals, too.
    jax.config.update("jax_enable_preemption_service", False)
    others = job.num_processes - 1
    missing = "1" if others == 1 else f"1 to {others}"
    waiting = threading.Timer(
        _TOLD_SECONDS,
        lambda: console.warning(
            f"waiting for {missing} of {job.num_processes} processes, which have to "
            f"come together at {job.coordinator_address}"
        ),
    )
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(**job._asdict(), shutdown_timeout_seconds=10)
    except RuntimeError as error:
        raise UsageError(
            f"process {job.process_id} of {job.num_processes} has not met the others "
            f"at {job.coordinator_address} ({str(error).splitlines()[0]}); start all "
            "of them, or JAX_NUM_PROCESSES=1 for one by itself."
        ) from None
    finally:
        waiting.cancel()


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise UsageError(
            f"{name} is {value!r}; allowed beside JAX_COORDINATOR_ADDRESS: a number."
        )
    return int(value)


def is_primary() -> bool:
    """Returns whether this process is the one that writes and prints."""
    return distributed.global_state.process_id == 0


def agreed(value: bool) -> bool:
    """Returns the first process's `value` in every process of the job."""
    if alone():
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def any_process(value: bool) -> bool:
    """Returns whether `value` holds in any process of the job."""
    return bool(gathered([value]).any())


def gathered(values: Sequence[float | int | bool]) -> np.ndarray:
    """Returns the numbers of every process of the job, [processes, values]."""
    own = np.asarray(values, np.float32)[None]
    if alone():
        return own
    return np.asarray(multihost_utils.process_allgather(own, tiled=True))


def alone() -> bool:
    """Returns whether this is the only process of its job."""
    return (distributed.global_state.num_processes or 1) == 1


_SIGNALS, _ALIVE, _ENDED = (
    f"robust_manifold/{name}" for name in ("signals", "alive", "ended")
)


def tell(number: int) -> None:
    """Tells the other processes of the job of a signal, whatever they are about."""
    _put(_SIGNALS, str(number))


def heard() -> int:
    """Returns a signal that a process of the job has told of; 0 for none."""
    return int(next(iter(_get(_SIGNALS).values()), 0))


def abandon(reason: str, code: int) -> None:
    """Ends the other processes of the job, as this one ends by a mistake.

    Args:
      reason: a sentence.
      code: with which this process ends, without waiting for them.
    """
    if not alone():
        _put(_ENDED, reason)
        # Before JAX's own, which would wait for the others.
        atexit.register(_exit, code)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if is_primary():
        # Without it the others would be aborted before they have heard the reason.
        time.sleep(6)
    os._exit(code)


class Watch:
    """Tells of processes of the job that have ended before this one."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}
        self._count, self._asked = 0, 0.0

    def lost(self, now: float) -> str | None:
        """Returns what is wrong with another process, or None; ask every second.

        Args:
          now: in seconds.
        """
        if alone() or not _JOINED.is_set():
            return None
        self._count += 1
        if now - self._asked > 5:
            # This process stood still, and so perhaps did all of them.
            self._seen.clear()
        self._asked = now
        _put(_ALIVE, str(self._count))
        of = distributed.global_state.num_processes or 1
        for process, reason in _get(_ENDED).items():
            return f"process {process} of {of} has ended: {reason}"
        beats = _get(_ALIVE)
        # One may end before its first.
        for process in map(str, range(of)):
            beat = beats.get(process, "")
            before, since = self._seen.setdefault(process, (beat, now))
            if beat != before:
                self._seen[process] = beat, now
            elif now - since > _LOST_SECONDS:
                return f"process {process} of {of} gives no sign of life"
        return None


def _client() -> Any:
    # JAX aborts a process that asks it before it is connected.
    return distributed.global_state.client if _JOINED.is_set() else None


def _put(folder: str, value: str) -> None:
    if (client := _client()) is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            key = f"{folder}/{distributed.global_state.process_id}"
            client.key_value_set(key, value, allow_overwrite=True)


def _get(folder: str) -> dict[str, str]:
    """Returns what the processes have put, by their numbers."""
    if (client := _client()) is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            found = client.key_value_dir_get(folder)
            return {key.rpartition("/")[2]: value for key, value in found}
    return {}


def barrier(name: str) -> None:
    """Waits until every process of the job has come here."""
    if not alone():
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
