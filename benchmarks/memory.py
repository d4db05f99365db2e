"""Peak memory of an inversion, in a process of its own.

  python benchmarks/memory.py RUN IMAGES.npy STEPS

prints one line of JSON.  "before" is what the process holds with images, parameters
and JAX loaded; "peak" is the most it ever held, by the system's count.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import contenders
import jax
import numpy as np
import runs

from robust_manifold import inversion

GIGA = 1e9
STEPS = 1


def compare(run, images):
    """Prints how much memory the inversion takes above its data."""
    platforms = jax.config.jax_platforms or ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images)
        done = subprocess.run(
            [sys.executable, __file__, str(run.path), str(file), str(STEPS)],
            env={**os.environ, "JAX_PLATFORMS": platforms},
            check=True,
            capture_output=True,
            text=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    above = (found["peak"] - found["before"]) / GIGA
    print(
        f"{len(images)} images x {found['restarts']} restarts, {STEPS} step (memory "
        f"does not depend on the steps): peak {found['peak'] / GIGA:.2f} GB, before "
        f"{found['before'] / GIGA:.2f} GB, above the data {above:.2f} GB (target: 4 "
        f"or less); {found['seconds']:.0f} s"
    )
    if found["device_peak"] is not None:
        print(f"on the device: peak {found['device_peak'] / GIGA:.2f} GB")


def measure(path, file, steps):
    """Returns the bytes that this process holds before and at its peak."""
    run, images = runs.Run(path), np.load(file)
    run.generator.params  # noqa: B018 - loaded before anything is measured
    solver = contenders.default(encoder=False).solver
    restarts = inversion.Restarts(count=10)
    setting = contenders.Setting(solver, restarts).stopped(steps)
    before = _resident()
    start = time.perf_counter()
    contenders.invert(run, images, setting)
    statistics = jax.local_devices()[0].memory_stats() or {}
    return {
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_peak": statistics.get("peak_bytes_in_use"),
        "restarts": restarts.count,
        "seconds": time.perf_counter() - start,
    }


def _resident():
    """The memory held now: a peak while loading would hide the inversion's."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
