"""The first call of PGD in a fresh process: ours, cold and warm, and torchattacks'.

  python benchmarks/first_call.py ours|torchattacks

makes the calls in this process and prints one line of JSON; `compare` starts such
processes in turn.  "cold" has an empty folder of compiled programs, "warm" the one that
a process before has filled.  Imports are timed apart.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

EPSILON, STEPS, IMAGES = 0.2, 40, 32
STEP_SIZE = 2.5 * EPSILON / STEPS


def compare(rounds):
    """Prints seconds of the imports, of the first calls and of one image's."""
    found = {name: [] for name in ("ours, cold", "ours, warm", "torchattacks")}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, results in found.items():
                results.append(_in_process(name.split(",")[0], folder))
    print(
        f"PGD-{STEPS} on small_cnn in a fresh process, median [least, most] of "
        f"{rounds}, seconds\n{'':14}"
        + "".join(
            f"{title:>24}"
            for title in (
                "import of the framework",
                "and of the attacks",
                f"first call, {IMAGES} images",
                "second call",
                "one image, first call",
                "one image, second call",
            )
        )
    )
    for name, results in found.items():
        columns = zip(*(result.values() for result in results), strict=True)
        print(f"{name:14}" + "".join(f"{_spread(column):>24}" for column in columns))
    print(end="", flush=True)


def _in_process(name, folder):
    done = subprocess.run(
        [sys.executable, __file__, name],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": folder},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _spread(values) -> str:
    least, middle, most = min(values), statistics.median(values), max(values)
    return f"{middle:.3f} [{least:.3f}, {most:.3f}]"


def ours():
    """Returns the seconds of imports and calls in this process."""
    start = time.perf_counter()
    import jax

    framework = time.perf_counter() - start
    start = time.perf_counter()
    from robust_manifold import attacks

    library = time.perf_counter() - start
    import known_networks

    import robust_manifold

    robust_manifold.enable_compilation_cache()

    network, test = known_networks.classifier("small_cnn")
    attack = attacks.PGD(EPSILON, steps=STEPS, step_size=STEP_SIZE)

    def craft(count):
        made = attacks.craft(
            attack,
            network.model.apply,
            network.params,
            test.images[:count],
            test.labels[:count],
            key=jax.random.key(0),
        )
        jax.block_until_ready(made.images)

    return _calls(framework, library, craft)


def torchattacks():
    """Returns the same of torchattacks."""
    start = time.perf_counter()
    import torch

    framework = time.perf_counter() - start
    start = time.perf_counter()
    import torchattacks

    library = time.perf_counter() - start
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    import attack_networks
    import known_networks

    network, test = known_networks.classifier("small_cnn")
    # Not yet called: that is what the first call is about.
    peer = attack_networks.torch_network(network, test.images.shape[1:])
    attack = torchattacks.PGD(peer, eps=EPSILON, alpha=STEP_SIZE, steps=STEPS)
    images, labels = attack_networks.torch_batch(test.images[:IMAGES], test.labels)

    def craft(count):
        attack(images[:count], labels[:count])

    return _calls(framework, library, craft)


def _calls(framework, library, craft):
    found = {"framework": framework, "library": library}
    for count in (IMAGES, 1):
        for call in ("first", "second"):
            start = time.perf_counter()
            craft(count)
            found[f"{call} of {count}"] = time.perf_counter() - start
    return found


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    sys.path.append(str(Path(__file__).parent))
    print(json.dumps({"ours": ours, "torchattacks": torchattacks}[name]()))
