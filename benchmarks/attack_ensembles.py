"""AutoAttack, member by member: this package, torchattacks and pyautoattack."""

import time
from typing import NamedTuple

import attack_peers as peers
import jax
import numpy as np

from robust_manifold import attacks

MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
PEER_NORMS = {"linf": "Linf", "l2": "L2"}


class Measured(NamedTuple):
    """Robust accuracy after each member, and how long all of them took."""

    accuracies: list[float]
    seconds: float
    fallen: np.ndarray


def compare(case, budgets, found):
    """Prints the robust accuracies on one network.

    Args:
      case: what is attacked.
      budgets: the radius by norm.
      found: the peers to stand beside.
    """
    print(
        f"{case.name}: {case.classifier.text}, {len(case.images)} images, clean "
        f"accuracy {case.accuracy():.4f}; robust accuracy after each member"
    )
    contenders = {"ours": _ours}
    if "pyautoattack" in found:
        contenders["pyautoattack"] = _pyautoattack
    if "torchattacks" in found:
        contenders["torchattacks"] = _torchattacks
        print("torchattacks' AutoAttack takes 10 steps of APGD and FAB, not 100.")
    for norm, epsilon in budgets.items():
        print(f"\n{norm} {epsilon}")
        print(
            f"  {'':14}{''.join(f'{name:>10}' for name in MEMBERS)}{'seconds':>10}, "
            "compilation included"
        )
        ours = None
        for name, run in contenders.items():
            measured = run(case, norm, epsilon)
            ours = measured if ours is None else ours
            _print_row(name, measured, ours)


def _print_row(name, measured, ours):
    columns = "".join(f"{accuracy:10.4f}" for accuracy in measured.accuracies)
    only = int(np.sum(ours.fallen & ~measured.fallen))
    missed = int(np.sum(measured.fallen & ~ours.fallen))
    beside = "" if measured is ours else f"   {only} fell to ours alone, {missed} to it"
    print(f"  {name:14}{columns}{measured.seconds:10.1f}{beside}", flush=True)


def _ours(case, norm, epsilon):
    start = time.perf_counter()
    made = attacks.craft(
        attacks.AutoAttack(epsilon, norm),
        case.classifier.model.apply,
        case.classifier.params,
        case.images,
        case.labels,
        key=jax.random.key(0),
    )
    made = jax.tree.map(np.asarray, made)
    seconds = time.perf_counter() - start
    case.check("ours", made.images, norm, epsilon)
    fallen = ~case.correct(made.images)
    # An image that was wrong from the start falls to the first member.
    after = [
        1 - float((fallen & (made.member <= place)).mean())
        for place in range(len(MEMBERS))
    ]
    return Measured(after, seconds, fallen)


def _torchattacks(case, norm, epsilon):
    import torchattacks

    ensemble = torchattacks.AutoAttack(
        case.torch,
        norm=PEER_NORMS[norm],
        eps=epsilon,
        n_classes=case.classifier.model.output_shape[0],
        seed=0,
    )
    members = ensemble._autoattack.attacks
    runs = [lambda part, m=member: m(*part.torch_batch()) for member in members]
    return _in_turn(case, norm, epsilon, runs)


def _pyautoattack(case, norm, epsilon):
    import pyautoattack

    with peers.quiet():
        ensemble = pyautoattack.AutoAttack(
            case.torch, norm=PEER_NORMS[norm], eps=epsilon, seed=0
        )
    ensemble.apgd.loss = "ce"
    ensemble.fab.targeted = True
    attacks_in_order = (
        ensemble.apgd,
        ensemble.apgd_targeted,
        ensemble.fab,
        ensemble.square,
    )
    runs = [lambda part, a=a: a.perturb(*part.torch_batch()) for a in attacks_in_order]
    return _in_turn(case, norm, epsilon, runs)


def _in_turn(case, norm, epsilon, runs):
    """Runs each member on what the ones before it left, as AutoAttack does."""
    seconds, fallen = 0.0, ~case.correct()
    after = []
    for run in runs:
        left = np.flatnonzero(~fallen)
        if left.size:
            part = case._replace(images=case.images[left], labels=case.labels[left])
            start = time.perf_counter()
            with peers.quiet():
                made = peers.pixels(run(part))
            seconds += time.perf_counter() - start
            part.check("peer", made, norm, epsilon)
            fallen[left] = ~part.correct(made)
        after.append(1 - float(fallen.mean()))
    return Measured(after, seconds, fallen)
