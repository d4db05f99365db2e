"""Convolutions against Flax's and PyTorch's, and GAN training against PyTorch's.

  pip install '.[bench]'
  python benchmarks/generator.py [--rounds=5] [--full]

The layers are those of `dcgan_generator` and `dcgan_discriminator`, for the digits of
`experiments/mnist.py` and for 64x64 faces; the trainings are that experiment's, and
the same with the non-saturating loss.  Before anything is timed, all libraries are
checked to compute the same from the same weights.

Contenders take turns, so that a drift of the machine's speed meets all of them.  A
ratio is the median over the rounds of (peer's time / ours), with quartiles: above 1,
ours is faster.  "call" is a single compiled call, "scan" is a call inside `lax.scan`,
which is where inversion, attacks and trainings compute it; PyTorch has one form only.
Of PyTorch's two memory formats the faster one counts.
"""

import argparse
import math
import os
import statistics
import sys

# The figures are a CPU's, whatever else there is.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import adversarial
import flax
import jax
import layers
import timing
import torch

BATCHES = (64, 500)
TARGETS = "targets: flax 2 or more, torch 1 or more"
FORMATS = tuple(f"torch {name}" for name in layers.MEMORY_FORMATS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="per row")
    parser.add_argument(
        "--full",
        action="store_true",
        help="faces of width 64 too, and all kernel gradients; takes half an hour",
    )
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    print(
        f"python {sys.version.split()[0]}, jax {jax.__version__}, flax "
        f"{flax.__version__}, torch {torch.__version__}; {threads} CPUs, torch threads "
        f"{torch.get_num_threads()}, load {os.getloadavg()[0]:.1f} at the start"
    )
    networks = {
        "digits": layers.network_layers(28, 1, 32),
        "faces, width 32": layers.network_layers(64, 3, 32),
    }
    if options.full:
        networks["faces, width 64"] = layers.network_layers(64, 3, 64)
    for name, group in networks.items():
        title = f"Output and input gradient, {name} ({TARGETS})"
        compare_layers(title, group, BATCHES, layers.input_side, options.rounds)
    for name, group in networks.items():
        if options.full or name == "digits":
            title = f"Kernel gradient, {name}"
            compare_layers(title, group, (64,), layers.kernel_side, options.rounds)
    compare_trainings(options.rounds)


def compare_layers(title, group, batches, compute, rounds):
    print(f"\n{title}")
    print(f"{'':46}{'milliseconds':^40}{'flax / ours':^42}{'torch / ours':^42}")
    times = ("ours", "scan", "flax", "scan", "torch")
    print(
        f"{'layer':40}{'batch':>6}"
        + "".join(f"{name:>8}" for name in times)
        + "".join(f"{name:>21}" for name in ("call", "scan") * 2)
    )
    found = []
    for layer in group:
        for batch in batches:
            contenders = layers.contenders(layer, batch, compute)
            times = timing.compare(contenders, rounds, budget=3)
            found.append(_print_row(f"{layer!s:40}{batch:6d}", times))
            jax.clear_caches()
    _print_means(found)


def _print_row(label, times):
    torch_name = times.fastest(*FORMATS)
    names = ("ours", "ours scan", "flax", "flax scan", torch_name)
    cells = "".join(f"{1e3 * times.median(name):8.2f}" for name in names)
    pairs = [("flax", "ours"), ("flax scan", "ours scan")]
    pairs += [(torch_name, "ours"), (torch_name, "ours scan")]
    ratios = [times.ratio(slower, faster) for slower, faster in pairs]
    text = "".join(f"{ratio!s:>21}" for ratio in ratios)
    print(f"{label}{cells}{text}  {torch_name.split()[1]}", flush=True)
    return [ratio.median for ratio in ratios]


def _print_means(rows):
    means = [
        math.exp(statistics.mean(map(math.log, ratios)))
        for ratios in zip(*rows, strict=True)
    ]
    label = "geometric mean of the ratios"
    print(f"{label:86}" + "".join(f"{mean:>21.2f}" for mean in means), flush=True)


def compare_trainings(rounds):
    print("\nGAN training, dcgan of width 32 on 28x28, batch 64 (target: 1 or more)")
    print(
        f"{'loss':16}{'k':>3}{'ours images/s':>15}{'torch images/s':>16}{'ratio':>22}"
    )
    for loss, k in adversarial.TRAININGS.items():
        times = timing.compare(adversarial.contenders(loss), rounds, budget=20)
        torch_name = times.fastest(*FORMATS)
        images = k * adversarial.BATCH
        rates = [images / times.median(name) for name in ("ours", torch_name)]
        ratio = times.ratio(torch_name, "ours")
        print(
            f"{loss:16}{k:3d}{rates[0]:15.0f}{rates[1]:16.0f}{ratio!s:>22}  "
            f"{torch_name.split()[1]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
