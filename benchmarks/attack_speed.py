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

    def among(self, found) -> "Race":
        """Returns the race of ours and of these libraries."""
        left = {
            name: contender
            for name, contender in self.contenders.items()
            if name == "ours" or name.split()[0] in found
        }
        return self._replace(contenders=left)


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


class Measured(NamedTuple):
    """What the contenders made, and the seconds of their calls.

    Attributes:
      first: seconds of the first call, which compiles.
      made: images.
      times: of the calls that followed.
    """

    first: dict[str, float]
    made: dict[str, np.ndarray]
    times: Times

    def peers(self) -> list[str]:
        """The others that were called repeatedly, the fastest first."""
        names = [name for name in self.times.rounds if name != "ours"]
        return sorted(names, key=self.times.median)


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
        race = build(epsilon).among(found)
        print(f"\n{name}: {race.like}", flush=True)
        measured = measure(case, race, epsilon, rounds, budget)
        _print(case, race, measured)
        jax.clear_caches()


def measure(case, race, epsilon, rounds, budget, slow=lambda first: SLOW) -> Measured:
    """Calls every contender once, and those that are not slow again in turn.

    Args:
      case: what is attacked.
      race: the contenders, whose results are checked.
      epsilon: the radius, if the race has one.
      rounds: as in `compare`.
      budget: as in `compare`.
      slow: from the peers' first seconds to those after which one is not called again.
    """
    first, made = {}, {}
    for name, run in race.contenders.items():
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
        case.check(name, made[name], race.norm, epsilon if race.budgeted else None)
    limit = slow([seconds for name, seconds in first.items() if name != "ours"])
    repeated = [n for n in first if n == "ours" or first[n] <= limit]
    times = _rounds(case, race.contenders, repeated, rounds, budget)
    return Measured(first, made, times)


def _print(case, race, measured):
    first, made, times = measured
    print(
        f"  {'':16}{'first call s':>14}{'then s':>9}{'images/s':>10}"
        f"{'ratio':>24}{'success':>9}{'distance':>10}"
    )
    for name in first:
        _print_row(case, race, name, first[name], times, made[name])
    if measured.peers():
        best = measured.peers()[0]
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
    success, distance = outcome(case, race, made)
    mean = f"{distance:10.4f}" if np.isfinite(distance) else f"{'':10}"
    if name in times.rounds:
        seconds = times.median(name)
        ratio = "" if name == "ours" else str(times.ratio(name, "ours"))
        timed = f"{seconds:9.2f}{len(made) / seconds:10.1f}{ratio:>24}"
    else:
        timed = f"{'(once)':>9}{len(made) / first:10.1f}{'':24}"
    print(f"  {name:16}{first:14.2f}{timed}{success:9.4f}{mean}", flush=True)


def outcome(case, race, made) -> tuple[float, float]:
    """Returns the success, of images that were right before, and its mean distance."""
    correct = case.correct()
    fallen = correct & ~case.correct(made)
    distances = case.distances(made, race.norm)[fallen]
    distance = float(distances.mean()) if distances.size else float("nan")
    return fallen.sum() / max(1, correct.sum()), distance


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
            "adv_lib": peers.adv_lib(
                "projected_gradient_descent",
                "pgd_linf",
                ε=epsilon,
                steps=PGD_STEPS,
                absolute_step_size=size,
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


def carlini_wagner(epsilon, rounds=CW_ROUNDS, steps=CW_STEPS, constant=1.0):
    """Returns the race in l2, which knows of no radius."""
    del epsilon
    attack = attacks.registry.build(
        f"carlini_wagner(norm='l2', binary_search_steps={rounds}, "
        f"steps={steps}, learning_rate={CW_RATE}, initial_const={constant}, "
        "abort_early=False, normalise=False)"
    )
    foolbox = {
        "name": "L2CarliniWagnerAttack",
        "binary_search_steps": rounds,
        "steps": steps,
        "stepsize": CW_RATE,
        # Its default, 0.001, is not left within so few rounds.
        "initial_const": constant,
        "abort_early": False,
    }
    return Race(
        f"{rounds} constants from {constant:g}, {steps} steps of Adam({CW_RATE}) each; "
        "no early abort here, in foolbox and adv_lib; torchattacks: one constant, as "
        "many steps in all, ends when its cost rises; art: its own line search in each "
        "step",
        "l2",
        False,
        {
            "ours": ours(attack),
            "foolbox jax": peers.foolbox_jax(**foolbox),
            "foolbox torch": peers.foolbox_torch(**foolbox),
            "torchattacks": peers.torchattacks(
                "CW", c=constant, steps=rounds * steps, lr=CW_RATE
            ),
            "adv_lib": peers.adv_lib(
                "carlini_wagner.l2",
                "carlini_wagner_l2",
                learning_rate=CW_RATE,
                initial_const=constant,
                binary_search_steps=rounds,
                max_iterations=steps,
                abort_early=False,
            ),
            "art": peers.art(
                "CarliniL2Method",
                binary_search_steps=rounds,
                max_iter=steps,
                learning_rate=CW_RATE,
                initial_const=constant,
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
            "adv_lib": peers.adv_lib(
                "auto_pgd",
                "apgd",
                eps=epsilon,
                norm=float("inf"),
                n_iter=APGD_STEPS,
                loss_function="ce",
                best_loss=True,
            ),
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
            "adv_lib": peers.adv_lib("deepfool", "df", steps=DEEPFOOL_STEPS),
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
    "cw_l2": carlini_wagner,
    "apgd": _apgd,
    "deepfool": _deepfool,
    "square": _square,
}
"""What is compared, by the attack's name: a function of the radius in linf."""
