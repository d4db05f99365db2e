"""Inversion against Defense-GAN's recipe, PyTorch, Flax's layers, and the machine.

  pip install '.[bench]'
  python benchmarks/inversion.py --run=RUN [--run=RUN2 ...] [--images=200] [--rounds=3]
    [--parts=quality,throughput,limit,memory,steps] [--accuracy]

RUN is the folder of a run with a generator; its encoder, its classifier and the images
of its config are used where a part needs them.  All contenders have the same weights
and are checked to compute the same before anything is timed.  They take turns, so that
a drift of the machine's speed meets all of them.  A ratio is the median over the rounds
of (other's time / ours), with quartiles: above 1, ours is faster.  Programs are
compiled before they are timed.

quality     seconds per 1,000 images until the mean error of the best restart is that
            of Defense-GAN's recipe
throughput  plain gradient steps a second: ours, the same loop with
            `flax.linen.ConvTranspose`, PyTorch in both memory formats
limit       floating-point operations a second beside those of a matrix product
memory      peak of 10,000 images x 10 restarts, in a process of its own
accuracy    Invert and Classify on clean and attacked digits; takes long
steps       steps a second at a large batch, which needs no images and serves on
            accelerators: --platform=gpu --parts=steps --batch=4096
"""

import argparse
import os
import sys

# The figures are a CPU's, unless --platform says otherwise.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import accuracy
import jax
import limit
import memory
import operations
import quality
import runs
import steps
import throughput

from robust_manifold.core.errors import UsageError

try:
    import torch
except ModuleNotFoundError:
    torch = None

TIMED = ("quality", "throughput", "limit", "memory", "steps")
PARTS = (*TIMED[:-1], "accuracy", "steps")
LIMIT_IMAGES = 50


def main():
    options = parse()
    if options.platform:
        choose_platform(options.platform)
    device = torch_device()
    describe(device)
    for path in options.run:
        run = runs.Run(path)
        print(f"\n=== {run}", flush=True)
        for part in options.parts:
            print(f"\n--- {part}", flush=True)
            measure(part, run, options, device)
            jax.clear_caches()


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", required=True, help="run folder")
    parser.add_argument("--images", type=int, default=200, help="that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="at most, per table")
    parser.add_argument("--parts", help=f"of {','.join(PARTS)}")
    parser.add_argument("--accuracy", action="store_true", help="that part too")
    parser.add_argument("--accuracy_images", type=int, default=1000)
    parser.add_argument("--memory_images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=200, help="images, part steps")
    parser.add_argument("--platform", help="such as gpu; default: $JAX_PLATFORMS, cpu")
    options = parser.parse_args()
    options.parts = options.parts.split(",") if options.parts else list(TIMED)
    if options.accuracy and "accuracy" not in options.parts:
        options.parts.append("accuracy")
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"--parts has {part!r}; allowed: {', '.join(PARTS)}.")
    return options


def choose_platform(name):
    """Makes JAX use a platform, or ends."""
    # JAX takes "gpu" for a list of makers, all of which have to be there.
    jax.config.update("jax_platforms", "" if name == "gpu" else name)
    if jax.default_backend() not in (name, {"cuda": "gpu"}.get(name)):
        sys.exit(f"--platform is {name}; JAX finds {jax.default_backend()} here.")


def torch_device() -> str | None:
    """Returns where PyTorch computes; None if it cannot stand beside our platform."""
    if torch is None:
        return None
    if jax.default_backend() == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        return "cpu"
    return "cuda" if torch.cuda.is_available() else None


def describe(device):
    peer = None
    if device is not None:
        peer = f"{torch.__version__} on {device}, {torch.get_num_threads()} threads"
    print(runs.describe_versions(peer))


def measure(part, run, options, device):
    if part == "quality":
        quality.compare(run, run.images(options.images), options.rounds, device)
    elif part == "throughput":
        throughput.compare(run, run.images(options.images), options.rounds, device)
    elif part == "limit":
        images = run.images(min(options.images, LIMIT_IMAGES))
        limit.compare(run, images, options.rounds, device)
    elif part == "memory":
        memory.compare(run, run.images(options.memory_images))
    elif part == "accuracy":
        accuracy.compare(run, options.accuracy_images, options.images)
    else:
        steps.compare(run, options.batch, options.rounds, device)
    if part in ("limit", "steps"):
        print(operations.FORMULA)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
