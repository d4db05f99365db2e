"""Attacks beside foolbox, torchattacks, ART, adv-lib and pyautoattack.

  pip install '.[bench]'
  pip install --no-deps torchattacks==3.5.1 adv-lib==0.2.8
  python benchmarks/attacks.py --run=RUN [--robust=RUN2] [--images=500] [--rounds=3]
    [--parts=speed,passes,autoattack,distances]

RUN is the folder of a run with a classifier, or a classifier of known_networks.py, such
as madry_cnn; residual_cnn goes with --linf=0.031.  RUN2 is a run of an adversarially
trained one, for instance of `experiments/mnist_adversarial.py`.  A peer that is not
installed is left out.  All contenders have the same weights, which is checked on the
images; what they return is checked to lie in the box and in the ball.

speed       images a second on RUN: the first call, which compiles, and then calls in
            turn.  A contender that takes more than 20 s is called once.  Success is of
            the images that are classified well before.  --attacks=pgd,square does some
passes      what passes through the network alone take, beside PGD on RUN
autoattack  robust accuracy after each member of AutoAttack, linf and l2, on both runs;
            --norms=linf and --networks=robust do some of it
distances   Carlini-Wagner in l2, linf and l0 on RUN: success and distance
"""

import argparse
import os
import sys

# The figures are a CPU's.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import attack_distances
import attack_ensembles
import attack_networks
import attack_passes
import attack_peers
import attack_speed
import jax
import runs
import torch

from robust_manifold.core.errors import UsageError

PARTS = ("speed", "passes", "autoattack", "distances")


def main():
    options = parse()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    threads = torch.get_num_threads()
    print(runs.describe_versions(f"{torch.__version__}, {threads} threads"))
    found = attack_peers.present()
    cases = {"undefended": attack_networks.load(options.run, options.images)}
    if options.robust:
        cases["robust"] = attack_networks.load(options.robust, options.images)
    for part in options.parts:
        print(f"\n--- {part}", flush=True)
        measure(part, cases, options, found)
        jax.clear_caches()


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="run folder, or a name")
    parser.add_argument("--robust", help="run folder of the robust classifier")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="part speed")
    parser.add_argument("--seconds", type=float, default=60, help="of rounds a table")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--attacks", help="part speed: some of them")
    parser.add_argument("--norms", help="parts autoattack and distances: some")
    parser.add_argument("--networks", help="part autoattack: undefended, robust")
    parser.add_argument("--linf", type=float, default=0.2, help="radius")
    parser.add_argument("--l2", type=float, default=2.0, help="radius, autoattack")
    parser.add_argument("--cw_rounds", type=int, default=9, help="part distances")
    parser.add_argument("--cw_steps", type=int, default=200, help="part distances")
    options = parser.parse_args()
    for name in ("parts", "attacks", "norms", "networks"):
        text = getattr(options, name)
        setattr(options, name, text.split(",") if text else None)
    known = {
        "parts": PARTS,
        "attacks": tuple(attack_speed.RACES),
        "norms": ("linf", "l2", "l0"),
        "networks": ("undefended", "robust"),
    }
    for name, allowed in known.items():
        for given in getattr(options, name) or ():
            if given not in allowed:
                parser.error(f"--{name} has {given!r}; allowed: {', '.join(allowed)}.")
    return options


def measure(part, cases, options, found):
    undefended = cases["undefended"]
    if part == "speed":
        attack_speed.compare(
            undefended,
            options.linf,
            options.rounds,
            options.seconds,
            found,
            options.attacks,
        )
    elif part == "passes":
        attack_passes.compare(undefended, options.linf, options.rounds, options.seconds)
    elif part == "autoattack":
        budgets = {"linf": options.linf, "l2": options.l2}
        norms = options.norms or list(budgets)
        for name, case in cases.items():
            if options.networks and name not in options.networks:
                continue
            print(f"\n{name}")
            attack_ensembles.compare(case, {n: budgets[n] for n in norms}, found)
    else:
        attack_distances.compare(
            undefended,
            options.cw_rounds,
            options.cw_steps,
            options.seconds,
            found,
            options.norms,
        )


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
