"""Carlini-Wagner attacks: how often they succeed, and how near, beside others."""

import time

import attack_peers as peers
import attack_speed
import numpy as np

from robust_manifold import attacks

RATE = 0.05
"""Learning rate of Adam in the like searches; foolbox' and ART's own is 0.01."""
PART = 50
"""Images that a slow peer is given at once."""


def contenders(rounds, steps) -> dict[str, dict]:
    """Returns the attacks by norm, ours at their defaults and at a like budget.

    Args:
      rounds: of the search for the constant.
      steps: in each round.
    """
    searched = {"binary_search_steps": rounds, "max_iter": steps}
    like = f"binary_search_steps={rounds}, steps={steps}, learning_rate={RATE}"
    foolbox = {
        "binary_search_steps": rounds,
        "steps": steps,
        "initial_const": 1.0,
        "abort_early": False,
    }
    return {
        "l2": {
            "ours": _ours("norm='l2'"),
            "ours like": _ours(f"norm='l2', {like}, abort_early=False"),
            "foolbox torch": peers.foolbox_torch(
                "L2CarliniWagnerAttack", stepsize=RATE, **foolbox
            ),
            "foolbox 0.01": peers.foolbox_torch("L2CarliniWagnerAttack", **foolbox),
            "art": peers.art(
                "CarliniL2Method", initial_const=1.0, learning_rate=RATE, **searched
            ),
        },
        "linf": {
            "ours": _ours("norm='linf'"),
            "adv_lib": peers.adv_lib(
                "carlini_wagner.linf", "carlini_wagner_linf", max_iterations=steps
            ),
            "art": peers.art("CarliniLInfMethod", max_iter=steps),
        },
        "l0": {
            "ours": _ours("norm='l0'"),
            "adv_lib sigma_zero": peers.adv_lib("sigma_zero", "sigma_zero"),
            "ours sigma_zero": attack_speed.ours(attacks.registry.build("sigma_zero")),
            "ours logits": attack_speed.ours(
                attacks.registry.build("sigma_zero(normalise=False)")
            ),
            "foolbox fmn": peers.foolbox_torch("L0FMNAttack", steps=1000),
            "ours fmn": attack_speed.ours(
                attacks.registry.build("fmn(norm='l0', steps=1000)")
            ),
            "art": peers.art("CarliniL0Method"),
        },
    }


def compare(case, rounds, steps, budget, found, norms=None):
    """Prints success and mean distance of each attack on one network.

    A peer that is slow attacks parts of the images until its time is up; our attacks
    then stand beside it on those images.

    Args:
      case: what is attacked; images that are wrong before count nowhere.
      rounds: as for `contenders`.
      steps: as for `contenders`.
      budget: seconds a peer.
      found: the peers to stand beside.
      norms: of `contenders`; None for all.
    """
    print(
        f"{case.name}: {case.classifier.text}, {len(case.images)} images, accuracy "
        f"{case.accuracy():.4f}; l2: {rounds} x {steps} steps, Adam({RATE}) from 1 "
        "(foolbox 0.01: its own rate); ours in linf and l0 at their defaults"
    )
    for norm, runs in contenders(rounds, steps).items():
        if norms and norm not in norms:
            continue
        print(f"\nCarlini-Wagner {norm}; distances on images where both succeed")
        print(
            f"  {'':16}{'images':>8}{'success':>9}{'distance':>10}{'ours there':>12}"
            f"{'seconds':>9}{'median':>10}"
        )
        reference = None
        for name, run in runs.items():
            if not name.startswith("ours") and name.split()[0] not in found:
                continue
            made, seconds = _within(run, case, budget, name)
            if made is None:
                continue
            case.first(len(made)).check(name, made)
            reference = made if reference is None else reference
            _print_row(case, norm, name, made, reference, seconds)


def _ours(fields):
    return attack_speed.ours(attacks.registry.build(f"carlini_wagner({fields})"))


def _within(run, case, budget, name):
    """Returns the images that a contender made within the budget, and the seconds."""
    start = time.perf_counter()
    if name.startswith("ours"):
        return run(case), time.perf_counter() - start
    parts = []
    for place in range(0, len(case.images), PART):
        try:
            with peers.quiet():
                parts.append(run(case.part(place, place + PART)))
        except Exception as error:  # A peer's crash is a finding.
            print(f"  {name:16} fails: {type(error).__name__}: {error}"[:110])
            return None, 0.0
        if time.perf_counter() - start > budget:
            break
    return np.concatenate(parts), time.perf_counter() - start


def _print_row(case, norm, name, made, reference, seconds):
    part = case.first(len(made))
    correct = part.correct()
    fallen = correct & ~part.correct(made)
    both = fallen & ~part.correct(reference[: len(made)])
    success = fallen.sum() / max(1, correct.sum())
    row = f"  {name:16}{len(made):8}{success:9.4f}"
    if both.any():
        theirs = part.distances(made, norm)[both]
        ours = part.distances(reference[: len(made)], norm)[both]
        row += f"{theirs.mean():10.4f}{ours.mean():12.4f}"
        row += f"{seconds:9.1f}{np.median(theirs):10.4f}"
    print(row, flush=True)
