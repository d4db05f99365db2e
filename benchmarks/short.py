"""The short form of the benchmarks of speed: `make bench`, ten minutes on two cores.

  python benchmarks/short.py [--parts=passes,attacks,first_call,inversion]
    [--networks=small_cnn,madry_cnn,residual_cnn] [--seconds=12]

The networks and their images are those of known_networks.py; no run is needed.  PyTorch
has the very same weights, in the memory format that a trial finds faster; results are
checked to agree before anything is timed.  Contenders take turns.  A ratio is the
median over the rounds of (other's time / ours), with quartiles (with three rounds: the
least and the largest): above 1, ours is faster.

passes      forward pass and input gradient: ours, Flax's layers, PyTorch; operations a
            second beside those of a large matrix product of the same rounds
attacks     five attacks beside the other libraries' PyTorch forms, after compilation.
            A peer that at first takes over 1.5 times the fastest one's time is called
            once.
first_call  PGD in a fresh process, with and without programs compiled before
inversion   plain gradient steps beside PyTorch's and beside the matrix product
"""

import argparse
import functools
import importlib
import os
import sys
import time

# The figures are a CPU's.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import attack_networks
import attack_peers
import attack_speed
import first_call
import jax
import known_networks
import limit
import operations
import passes
import quality
import runs
import throughput
import timing
import torch
import torch_recipe
from contenders import RECIPE_RESTARTS, RECIPE_SETTING

from robust_manifold.core.errors import UsageError

PARTS = ("passes", "attacks", "first_call", "inversion")
BATCHES = (32, 128)
ROUNDS = 3
IMAGES = {"small_cnn": 128, "madry_cnn": 64, "residual_cnn": 32}
"""Images that are attacked: as few as the network is slow."""
CW = {"rounds": 2, "steps": 40, "constant": 10.0}
PEERS = ("foolbox torch", "torchattacks", "adv_lib", "pyautoattack")
LEFT_OUT = {"deepfool": ("torchattacks",)}
"""torchattacks' DeepFool takes one image at a time, and a minute."""
INVERTED = 50
INVERSION_STEPS = 20


def main():
    options = parse()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    start = time.perf_counter()
    print(runs.describe_versions(torch.__version__))
    for part in options.parts:
        print(f"\n--- {part}", flush=True)
        PRINT[part](options)
        jax.clear_caches()
    print(f"\n{time.perf_counter() - start:.0f} s in all; {runs.describe_machine()}")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {"parts": PARTS, "networks": tuple(IMAGES)}
    for name, allowed in known.items():
        parser.add_argument(f"--{name}", default=",".join(allowed))
    parser.add_argument("--seconds", type=float, default=12, help="of rounds a race")
    options = parser.parse_args()
    for name, allowed in known.items():
        given = getattr(options, name).split(",")
        for value in given:
            if value not in allowed:
                allowed = ", ".join(allowed)
                parser.error(f"--{name} has {value!r}; allowed: {allowed}.")
        setattr(options, name, given)
    return options


def print_passes(options):
    cases = [attack_networks.known(name, max(BATCHES)) for name in options.networks]
    passes.compare(cases, BATCHES, ROUNDS)


def print_attacks(options):
    for name in attack_peers.present():
        # No part of a first call; ART is not called here.
        if name != "art":
            importlib.import_module(name)
    print(
        f"PGD-{attack_speed.PGD_STEPS}, APGD-{attack_speed.APGD_STEPS}, Carlini-Wagner "
        f"l2 {CW['rounds']} x {CW['steps']} steps from a constant of {CW['constant']}, "
        f"DeepFool l2, Square-{attack_speed.SQUARE_QUERIES}; radius in linf: "
        + ", ".join(
            f"{name} {known_networks.CLASSIFIERS[name].epsilon:.3g}"
            for name in options.networks
        )
    )
    print(
        f"{'network':14}{'attack':10}{'images':>7}{'ours s':>9}{'success':>9}"
        f"{'distance':>10}   {'peer':14}{'its time / ours':>22}{'success':>9}"
        f"{'distance':>10}"
    )
    for name in options.networks:
        case = attack_networks.known(name, IMAGES[name])
        for attack in attack_speed.RACES:
            print_race(case, attack, options.seconds)
            jax.clear_caches()


def print_race(case, attack, seconds):
    """Prints ours and the peers, the fastest first."""
    epsilon = known_networks.CLASSIFIERS[case.name].epsilon
    build = attack_speed.RACES[attack]
    if attack == "cw_l2":
        build = functools.partial(build, **CW)
    race = build(epsilon)
    names = [name for name in PEERS if name not in LEFT_OUT.get(attack, ())]
    contenders = {name: race.contenders.get(name) for name in ("ours", *names)}
    race = race._replace(contenders={k: v for k, v in contenders.items() if v})
    measured = attack_speed.measure(
        case, race, epsilon, ROUNDS, seconds, slow=lambda first: 1.5 * min(first)
    )
    found = {
        name: "{:9.3f}{:10.4f}".format(*attack_speed.outcome(case, race, made))
        for name, made in measured.made.items()
    }
    mine = f"{measured.times.median('ours'):9.2f}{found['ours']}"
    label = f"{case.name:14}{attack:10}{len(case.images):7}{mine}"
    once = [name for name in found if name not in measured.times.rounds]
    for name in measured.peers() + once:
        if name in once:
            ratio = f"{measured.first[name] / measured.times.median('ours'):.3g}, once"
        else:
            ratio = str(measured.times.ratio(name, "ours"))
        print(f"{label}   {name:14}{ratio:>22}{found[name]}", flush=True)
        label = " " * len(label)


def print_first_call(options):
    del options
    first_call.compare(ROUNDS)


def print_inversion(options):
    del options
    images = known_networks.digits(INVERTED)
    print(
        f"plain gradient steps, {INVERTED} images x {RECIPE_RESTARTS.count} restarts "
        f"at a time\n{'generator':28}{'thousand restart-steps/s':>26}{'GFLOP/s':>9}"
        f"{'of the product':>24}{'torch / ours':>24}"
    )
    for name in known_networks.GENERATORS:
        print_steps(known_networks.Generating(known_networks.generator(name)), images)


def print_steps(run, images):
    """Prints the plain gradient steps a second of one generator."""
    setting = RECIPE_SETTING.stopped(INVERSION_STEPS)
    peers = torch_recipe.peers(run.generator)
    quality.check_same(run, images, peers)
    calls = {"ours": throughput.call(run, images, setting)}
    calls |= throughput.torch_calls(run, images, setting, peers)
    calls = {name: timing.Contender(call) for name, call in calls.items()}
    products = limit.matrix_products(None)
    times = timing.compare(products | calls, ROUNDS, budget=60)
    done = len(images) * setting.restarts.count * setting.solver.steps
    each = operations.gradient_step(run.generator)
    rate = done / times.median("ours")
    share = limit.share_of(times, *products, "ours", done * each)
    peer = times.fastest(*(name for name in calls if name != "ours"))
    print(
        f"{run.generator.text:28}{rate / 1e3:26.1f}{rate * each / 1e9:9.0f}"
        f"{share!s:>24}{times.ratio(peer, 'ours')!s:>24}  {peer}",
        flush=True,
    )


PRINT = {
    "passes": print_passes,
    "attacks": print_attacks,
    "first_call": print_first_call,
    "inversion": print_inversion,
}

if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
