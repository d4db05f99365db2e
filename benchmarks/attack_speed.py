"""Images a second of five attacks, in this package and in others."""

import time
from collections.abc import Callable
from typing import NamedTuple

import attack_peers as peers
import jax
import numpy as np
from timing import PAUSE, Times

from robust_manifold import attacks

SLOW = 20.0
"""Seconds of a first call after which a contender is not called again."""

PGD_STEPS, CW_ROUNDS, CW_STEPS, CW_RATE = 40, 5, 100, 0.05
APGD_STEPS, DEEPFOOL_STEPS, SQUARE_QUERIES = 100, 50, 500


class Race(NamedTuple):
    """Like attacks with like settings.

    Attributes:
      like: the settings in words.
      norm: of the perturbations.
      budgeted: whether they stay in a ball.
      contenders: each a function of a case that returns images.
    """

    like: str
    norm: str
    budgeted: bool
    contenders: dict[str, Callable]


def ours(attack):
    """Returns our attack as a contender."""

    def run(case):
        made = attacks.craft(
            attack,
            case.classifier.model.apply,
            case.classifier.params,
            case.images,
            case.labels,
            key=jax.random.key(0),
        )
        return np.asarray(made.images)

    return run


def compare(case, epsilon, rounds, budget, found, names=None):
    """Prints a table for each attack.

    Args:
      case: what is attacked.
      epsilon: of the attacks with a budget, linf.
      rounds: each calls every contender once.
      budget: seconds an attack after which no further round is begun.
      found: the peers to stand beside.
      names: of `RACES`; None for all.
    """
    print(
        f"{case.name}: {case.classifier.text}, {len(case.images)} images, accuracy "
        f"{case.accuracy():.4f}; ratio: time / ours, median [quartiles]"
    )
    for name, build in RACES.items():
        if names and name not in names:
            continue
        race = build(epsilon)
        left = {
            label: contender
            for label, contender in race.contenders.items()
            if label == "ours" or label.split()[0] in found
        }
        print(f"\n{name}: {race.like}", flush=True)
        limit = epsilon if race.budgeted else None
        _compare(case, race._replace(contenders=left), limit, rounds, budget)
        jax.clear_caches()


def _compare(case, race, epsilon, rounds, budget):
    first, made = {}, {}
    for name, run in list(race.contenders.items()):
        start = time.perf_counter()
        try:
            with peers.quiet():
                made[name] = run(case)
        except Exception as error:  # A peer's crash is a finding; ours is not.
            if name == "ours":
                raise
            print(f"  {name:16} fails: {type(error).__name__}: {error}"[:110])
            continue
        first[name] = time.perf_counter() - start
        case.check(name, made[name], race.norm, epsilon)
    repeated = [n for n in first if n == "ours" or first[n] <= SLOW]
    times = _rounds(case, race.contenders, repeated, rounds, budget)
    print(
        f"  {'':16}{'first call s':>14}{'then s':>9}{'images/s':>10}"
        f"{'ratio':>24}{'success':>9}{'distance':>10}"
    )
    for name in first:
        _print_row(case, race, name, first[name], times, made[name])
    others = [name for name in repeated if name != "ours"]
    if others:
        best = times.fastest(*others)
        print(f"  fastest peer: {best}, {times.ratio(best, 'ours')} of our time")
    elif len(first) > 1:
        best = min((name for name in first if name != "ours"), key=first.__getitem__)
        ratio = first[best] / times.median("ours")
        print(
            f"  fastest peer: {best}, once: {ratio:.1f} of our time, with what it "
            f"compiles, {first[best] / first['ours']:.1f} of our first call"
        )


def _rounds(case, contenders, names, rounds, budget) -> Times:
    """Calls the contenders in turn, so that a drift of the machine meets them all."""
    times = {name: [] for name in names}
    start = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - start > budget:
            break
        for name in names:
            time.sleep(PAUSE)
            began = time.perf_counter()
            with peers.quiet():
                contenders[name](case)
            times[name].append(time.perf_counter() - began)
    return Times(times)


def _print_row(case, race, name, first, times, made):
    correct = case.correct()
    fallen = ~case.correct(made)
    distance = case.distances(made, race.norm)[correct & fallen]
    mean = f"{distance.mean():10.4f}" if distance.size else f"{'':10}"
    # Success: of the images that were right before.
    success = (correct & fallen).sum() / max(1, correct.sum())
    if name in times.rounds:
        seconds = times.median(name)
        ratio = "" if name == "ours" else str(times.ratio(name, "ours"))
        timed = f"{seconds:9.2f}{len(made) / seconds:10.1f}{ratio:>24}"
    else:
        timed = f"{'(once)':>9}{len(made) / first:10.1f}{'':24}"
    print(f"  {name:16}{first:14.2f}{timed}{success:9.4f}{mean}", flush=True)


def _pgd(epsilon):
    size = 2.5 * epsilon / PGD_STEPS
    foolbox = {
        "name": "LinfProjectedGradientDescentAttack",
        "epsilon": epsilon,
        "steps": PGD_STEPS,
        "abs_stepsize": size,
    }
    return Race(
        f"linf {epsilon}, {PGD_STEPS} steps of {size:g}, random start; all steps taken",
        "linf",
        True,
        {
            "ours": ours(attacks.PGD(epsilon, steps=PGD_STEPS, step_size=size)),
            "foolbox jax": peers.foolbox_jax(**foolbox),
            "foolbox torch": peers.foolbox_torch(**foolbox),
            "torchattacks": peers.torchattacks(
                "PGD", eps=epsilon, alpha=size, steps=PGD_STEPS
            ),
            "art": peers.art(
                "ProjectedGradientDescent",
                eps=epsilon,
                eps_step=size,
                max_iter=PGD_STEPS,
                num_random_init=1,
            ),
        },
    )


def _carlini_wagner(epsilon):
    del epsilon
    attack = attacks.registry.build(
        f"carlini_wagner(norm='l2', binary_search_steps={CW_ROUNDS}, "
        f"steps={CW_STEPS}, learning_rate={CW_RATE}, initial_const=1.0, "
        "abort_early=False, normalise=False)"
    )
    foolbox = {
        "name": "L2CarliniWagnerAttack",
        "binary_search_steps": CW_ROUNDS,
        "steps": CW_STEPS,
        "stepsize": CW_RATE,
        # Its default, 0.001, is not left within so few rounds.
        "initial_const": 1.0,
        "abort_early": False,
    }
    return Race(
        f"{CW_ROUNDS} constants from 1, {CW_STEPS} steps of Adam({CW_RATE}) each; no "
        "early abort here and in foolbox; torchattacks: one constant 1, as many steps "
        "in all, ends when its cost rises; art: its own line search in each step",
        "l2",
        False,
        {
            "ours": ours(attack),
            "foolbox jax": peers.foolbox_jax(**foolbox),
            "foolbox torch": peers.foolbox_torch(**foolbox),
            "torchattacks": peers.torchattacks(
                "CW", c=1, steps=CW_ROUNDS * CW_STEPS, lr=CW_RATE
            ),
            "art": peers.art(
                "CarliniL2Method",
                binary_search_steps=CW_ROUNDS,
                max_iter=CW_STEPS,
                learning_rate=CW_RATE,
                initial_const=1.0,
            ),
        },
    )


def _apgd(epsilon):
    return Race(
        f"linf {epsilon}, {APGD_STEPS} steps, cross-entropy (art: of 1 random start)",
        "linf",
        True,
        {
            "ours": ours(attacks.APGD(epsilon, loss="ce", steps=APGD_STEPS)),
            "torchattacks": peers.torchattacks(
                "APGD", norm="Linf", eps=epsilon, steps=APGD_STEPS, loss="ce"
            ),
            "pyautoattack": peers.apgd("Linf", epsilon, APGD_STEPS),
            "art": peers.art(
                "AutoProjectedGradientDescent",
                eps=epsilon,
                eps_step=2 * epsilon,
                max_iter=APGD_STEPS,
                nb_random_init=1,
                loss_type="cross_entropy",
            ),
        },
    )


def _deepfool(epsilon):
    del epsilon
    foolbox = {"name": "L2DeepFoolAttack", "steps": DEEPFOOL_STEPS, "candidates": 10}
    return Race(
        f"l2, {DEEPFOOL_STEPS} steps at most, 10 classes, overshoot 0.02",
        "l2",
        False,
        {
            "ours": ours(attacks.DeepFool("l2", steps=DEEPFOOL_STEPS, candidates=10)),
            "foolbox jax": peers.foolbox_jax(**foolbox),
            "foolbox torch": peers.foolbox_torch(**foolbox),
            "torchattacks": peers.torchattacks("DeepFool", steps=DEEPFOOL_STEPS),
            "art": peers.art("DeepFool", max_iter=DEEPFOOL_STEPS, epsilon=0.02),
        },
    )


def _square(epsilon):
    return Race(
        f"linf {epsilon}, {SQUARE_QUERIES} queries at most; fallen images drop out",
        "linf",
        True,
        {
            "ours": ours(attacks.Square(epsilon, queries=SQUARE_QUERIES)),
            "torchattacks": peers.torchattacks(
                "Square", norm="Linf", eps=epsilon, n_queries=SQUARE_QUERIES
            ),
            "pyautoattack": peers.square("Linf", epsilon, SQUARE_QUERIES),
            "art": peers.art(
                "SquareAttack", norm=np.inf, eps=epsilon, max_iter=SQUARE_QUERIES
            ),
        },
    )


RACES = {
    "pgd": _pgd,
    "cw_l2": _carlini_wagner,
    "apgd": _apgd,
    "deepfool": _deepfool,
    "square": _square,
}
"""What is compared, by the attack's name: a function of the radius in linf."""
