"""What an inversion costs when more devices, or more processes, share its images.

  python benchmarks/scale.py [--images=64] [--restarts=10] [--steps=20]
    [--devices=1,2,4,8] [--processes=2,4]

The devices are virtual ones of this machine's CPU; a process of several has one.  All
of them do the same work, so without a cost of sharing it takes the same CPU time: the
efficiency is the CPU time of one device over that of all.  It needs no idle machine,
and no more cores than one.  "between" is what the second of two equal calls sends
over the loopback interface, so nothing else may use that meanwhile; "memory" is the
most that a process held, less what it held before, for each of its devices.  Results
must be the same to the last bit, else the exit code is 1.
"""

import argparse
import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

TILE = 8
"""Images that a device inverts at once."""


def work(given: argparse.Namespace) -> None:
    """Inverts in this process, one of a job or alone, and prints what it took."""
    import jax
    import known_networks
    import numpy as np

    from robust_manifold import inversion
    from robust_manifold.runtime import devices

    devices.initialise(compilation_cache=False)
    network = known_networks.generator("dcgan")
    shape = network.model.input_shape
    latents = jax.random.normal(jax.random.key(0), (given.images, *shape))
    generate = jax.jit(jax.vmap(network.model.apply, (None, 0)))
    images = np.asarray(generate(network.params, latents))

    def invert():
        found = inversion.invert(
            network.model.apply,
            network.params,
            images,
            key=jax.random.key(1),
            latent_shape=shape,
            solver=f"adam(steps={given.steps})",
            restarts=given.restarts,
            tile=TILE,
        )
        return np.asarray(found.restart_errors)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    invert()
    devices.barrier("compiled")
    sent, cpu, start = _sent(), time.process_time(), time.perf_counter()
    errors = invert()
    devices.barrier("done")
    print(
        json.dumps(
            {
                "cpu": time.process_time() - cpu,
                "seconds": time.perf_counter() - start,
                "sent": _sent() - sent,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
                "result": hashlib.sha256(errors.tobytes()).hexdigest(),
            }
        )
    )


def _sent() -> int:
    """Returns the bytes that this machine has sent to itself."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    return 0


def measured(devices: int, processes: int) -> list[dict]:
    """Returns what each process of a job prints."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = []
    for number in range(processes):
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
        }
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": f"{processes}",
                "JAX_PROCESS_ID": f"{number}",
            }
        started.append(
            subprocess.Popen(
                [sys.executable, __file__, *sys.argv[1:], "--worker"],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    lines = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"{devices} devices, {processes} processes: failed")
    return [json.loads(text.splitlines()[-1]) for text in lines]


def main() -> int:
    """Prints the table, and returns 1 if results differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--devices", default="1,2,4,8")
    parser.add_argument("--processes", default="2,4")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
        return 0
    jobs = [(int(n), 1) for n in given.devices.split(",")]
    jobs += [(1, int(n)) for n in given.processes.split(",") if n]
    print(
        f"{given.images} images x {given.restarts} restarts x {given.steps} steps\n"
        "| processes x devices | CPU s | efficiency | wall s | between, kB "
        "| memory a device, MB |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    one, results = None, set()
    for devices, processes in jobs:
        found = measured(devices, processes)
        cpu = sum(each["cpu"] for each in found)
        one = one or cpu
        results |= {each["result"] for each in found}
        memory = max(each["memory"] for each in found) / devices / 1e3
        print(
            f"| {processes} x {devices} | {cpu:.2f} | {one / cpu:.0%} | "
            f"{max(each['seconds'] for each in found):.2f} | "
            f"{max(each['sent'] for each in found) / 1e3:.0f} | {memory:.0f} |",
            flush=True,
        )
    print("results: " + ("the same to the last bit" if len(results) == 1 else "DIFFER"))
    return int(len(results) > 1)


if __name__ == "__main__":
    sys.exit(main())
