"""The checks by what they need; each suite yields those that are wanted."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.attacks import Attack
from robust_manifold.attacks.random import Apply, bound, outputs_of
from robust_manifold.core import keys
from robust_manifold.core.criterion import MISCLASSIFIED
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Params
from robust_manifold.evaluation.audits import (
    binarisation,
    budgets,
    gradients,
    operations,
    ordering,
    probe,
    projections,
    repetition,
    search,
    strength,
)
from robust_manifold.evaluation.audits.check import Check, judged, skipped
from robust_manifold.evaluation.audits.own_attack import OwnAttack
from robust_manifold.evaluation.audits.runs import Network, Runs
from robust_manifold.evaluation.results import predictions_of
from robust_manifold.evaluation.worst_case import Budget
from robust_manifold.inversion import Status


class PairsFound(NamedTuple):
    """Latent pairs of a search, and what they were allowed.

    Attributes:
      pairs: images, logits and successes.
      eta: the distance allowed, in pixels.
      norm: of the distance.
      judge: an independent classifier, trained apart from the attacked one.
    """

    pairs: projections.LatentPairs
    eta: float
    norm: Norm = "l2"
    judge: Network | None = None


class Given(NamedTuple):
    """What a user handed in beside the classifier."""

    batched: Callable[[Params, Any], Any] | None
    projection: probe.Projection | None
    pairs: PairsFound | None


def missing(runs: Runs, given: Given) -> dict[str, str]:
    """Returns the checks that need what was not handed in, and what that is."""
    no_view = runs.view is None
    defended = gradients.of_stage(gradients.DEFENDED)
    seen = gradients.of_stage(gradients.SEEN)
    batches = (repetition.BATCH_MATES, repetition.TRAINING_MODE)
    pairs = (projections.PAIRS, projections.JUDGE)
    needs = (
        (runs.undefended is None, _NO_BARE, (ordering.TRANSFER, defended)),
        (no_view or isinstance(runs.attack, OwnAttack), _NO_VIEW, (ordering.VIEW,)),
        (no_view, "no view was given", (seen,)),
        (given.batched is None, "no function of a batch was given", batches),
        (given.projection is None, "no projection was given", _PROJECTED),
        (given.pairs is None, "no latent pairs were given", pairs),
    )
    return {name: reason for absent, reason, own in needs if absent for name in own}


_NO_BARE = "no undefended classifier was given"
_NO_VIEW = "the attack has no view"
_UNWANTED = "what is missing is not wanted"


def _budgets(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given
    epsilon, norm = runs.epsilon, runs.norm
    if budgets.ZERO_BUDGET in wanted:
        if runs.random:
            yield skipped(budgets.ZERO_BUDGET, "the classifier is random")
        else:
            yield budgets.zero_budget(runs.wrong, runs.at(0.0).broken)
    if budgets.WITHIN_BUDGET in wanted:
        made = runs.main.images
        yield budgets.within_budget(runs.images, made, norm, epsilon)
    if budgets.GROWING_BUDGET in wanted:
        rising = [epsilon / 2, epsilon, min(2 * epsilon, runs.all_budget)]
        rising = sorted(set(rising))
        broken = np.stack([runs.at(budget).broken for budget in rising])
        yield budgets.growing_budget(rising, broken)
    if budgets.ANY_BUDGET in wanted:
        largest = runs.all_budget
        yield budgets.any_budget(runs.at(largest).broken, largest, norm)


def _orders(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given
    steps, restarts = runs.fewer_steps, runs.more_restarts

    def order(name, strong, weak, stronger="The attack", weaker="") -> Check:
        return ordering.ordered(name, strong, weak, stronger=stronger, weaker=weaker)

    if ordering.SINGLE_STEP in wanted:
        yield order(
            ordering.SINGLE_STEP,
            runs.main.broken,
            runs.single_step.broken,
            weaker="a single step",
        )
    if ordering.MORE_STEPS in wanted:
        if steps is None:
            yield skipped(ordering.MORE_STEPS, "the attack has no number of steps")
        else:
            yield order(
                ordering.MORE_STEPS,
                runs.main.broken,
                runs.made(steps).broken,
                weaker=f"the same with {steps.steps} steps",
            )
    if ordering.MORE_RESTARTS in wanted:
        if restarts is None:
            yield skipped(ordering.MORE_RESTARTS, "the attack has no random starts")
        else:
            yield order(
                ordering.MORE_RESTARTS,
                runs.made(restarts).broken,
                runs.main.broken,
                stronger=f"The attack with {restarts.restarts} restarts",
                weaker="the attack itself",
            )
    if ordering.SCORES in wanted:
        yield order(
            ordering.SCORES,
            runs.main.broken,
            runs.scores.broken,
            weaker=f"random search with {runs.queries} queries",
        )
    if ordering.TRANSFER in wanted:
        yield order(
            ordering.TRANSFER,
            runs.main.broken,
            runs.transferred,
            weaker="the attack made on the undefended classifier",
        )
    if ordering.NOISE in wanted:
        yield order(
            ordering.NOISE, runs.main.broken, runs.noise, weaker="noise of that size"
        )
    if ordering.VIEW in wanted:
        if not _passes_back(runs.apply, runs):
            yield skipped(ordering.VIEW, "the classifier has no gradient of its own")
        else:
            assert isinstance(runs.attack, Attack), _UNWANTED
            own = runs.made(runs.attack, blind=True)
            yield ordering.view_against_gradient(runs.main.broken, own.broken)


def _strength(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given, wanted
    if runs.random or runs.view is not None:
        yield skipped(strength.STRENGTH, "the classifier has a key, or a view")
    elif runs.criterion != MISCLASSIFIED:
        yield skipped(strength.STRENGTH, "it goes for misclassified images alone")
    else:
        before = ~(runs.wrong | runs.main.broken)
        budget = Budget(runs.norm, runs.epsilon)
        after, by = runs.stronger(before)
        yield strength.stronger_pass(before, after, budget, by)


def _active(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given, wanted
    attack = runs.attack
    if isinstance(attack, OwnAttack):
        yield skipped(binarisation.ACTIVE, "an own attack knows of no other classes")
    elif attack.needs_classes:
        yield skipped(
            binarisation.ACTIVE, "the attack needs the classes that there are"
        )
    elif not _passes_back(runs.view or runs.apply, runs):
        yield skipped(binarisation.ACTIVE, "there is no gradient to plant by")
    else:
        read = "the logits" if runs.criterion.classes else "the outputs"
        yield binarisation.planted_found(runs.planted, "the attack", read)


def _gradients(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given
    defended = runs.undefended is not None
    bare = runs.undefended or Network(runs.apply, runs.params)
    # The cross-entropy is looked at where the logits are those of the figure.
    figure = gradients.DEFENDED if defended else gradients.CLASSIFIER
    stages = {
        gradients.CLASSIFIER: bare,
        gradients.DEFENDED: Network(runs.apply, runs.params) if defended else None,
        gradients.SEEN: Network(runs.view, runs.params) if runs.view else None,
    }
    for stage, network in stages.items():
        name = gradients.of_stage(stage)
        also = stage == figure and gradients.CROSS_ENTROPY in wanted
        if name not in wanted and not also:
            continue
        assert network is not None, _UNWANTED
        if not _passes_back(network.apply, runs, network.params):
            told = f"{stage} holds a loop that no gradient passes back through"
            yield judged(True, name, 1.0, f"{told[0].upper()}{told[1:]}.")
            if also:
                yield skipped(gradients.CROSS_ENTROPY, "there is no gradient")
        else:
            found = probe.gradients_of(
                network.apply,
                network.params,
                runs.images,
                runs.labels,
                key=keys.stream(runs.key, "gradients"),
                criterion=runs.criterion,
            )
            margins = np.asarray(found.margin)
            yield gradients.useful_gradients(margins, stage)
            if also and not runs.criterion.classes:
                yield skipped(gradients.CROSS_ENTROPY, _without_classes(runs))
            elif also:
                yield gradients.followed_cross_entropy(
                    np.asarray(found.cross_entropy), margins
                )


def _without_classes(runs: Runs) -> str:
    return f"the criterion {type(runs.criterion).__name__} has no classes"


def _passes_back(apply: Apply, runs: Runs, params: Params | None = None) -> bool:
    """Returns whether a gradient can be asked for, be it zero."""
    params = runs.params if params is None else params
    program = _program(apply, runs, params)
    return program.carries or "while" not in program.operations


def _program(apply: Apply, runs: Runs, params: Params) -> operations.Program:
    image = jax.ShapeDtypeStruct(runs.images.shape[1:], runs.images.dtype)
    return operations.scan_program(
        lambda image, params: bound(apply, params, jax.random.key(0))(image),
        image,
        params,
    )


def _logits(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given
    logits, classes = runs.clean_logits, runs.criterion.classes
    if gradients.LOGIT_SCALE in wanted and classes:
        ordered = np.sort(logits, axis=-1)
        gap = float(np.median(ordered[:, -1] - ordered[:, -2]))
        scales = [1.0, 100.0, *([1 / gap] if 0 < gap < np.inf else [])]
        broken = np.stack([runs.at_scale(scale) for scale in scales])
        yield gradients.same_at_all_scales(np.asarray(scales), broken)
    elif gradients.LOGIT_SCALE in wanted:
        yield skipped(gradients.LOGIT_SCALE, _without_classes(runs))
    if gradients.PROBABILITIES in wanted:
        yield gradients.no_probabilities(logits, classes)
    if gradients.CLASSES in wanted:
        if not classes:
            yield skipped(gradients.CLASSES, _without_classes(runs))
        elif isinstance(runs.attack, OwnAttack):
            yield skipped(gradients.CLASSES, "the loss of an own attack is not known")
        else:
            count = runs.outputs
            made = runs.attack.fitting(runs.criterion, count)
            yield gradients.enough_classes(count, str(runs.attack), str(made))


def _search(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given
    if {search.SILENT_SUCCESS, search.UNFINISHED} & set(wanted):
        trail = runs.trail
        if trail is None:
            for name in (search.SILENT_SUCCESS, search.UNFINISHED):
                yield skipped(name, "what the attack looks at cannot be seen")
        else:
            met, broken = np.asarray(trail.met), np.asarray(trail.broken)
            if runs.random:
                reason = "the classifier is random, and changes its mind between looks"
                yield skipped(search.SILENT_SUCCESS, reason)
                yield skipped(search.UNFINISHED, reason)
            else:
                yield search.silent_success(met, broken)
                yield search.unfinished_search(np.asarray(trail.losses), broken)
    if search.COST in wanted:
        yield search.stated_cost(runs.main.forwards, runs.main.backwards)


def _repeated(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    if repetition.KEYS in wanted:
        if not runs.random:
            yield skipped(repetition.KEYS, "the classifier takes no key")
        elif not runs.criterion.classes:
            yield skipped(repetition.KEYS, _without_classes(runs))
        else:
            attacked = runs.predictions_by_key(runs.main.images)
            counted = predictions_of(runs.main.outputs)[None]
            yield repetition.same_for_all_keys(
                runs.predictions_by_key(runs.images),
                np.concatenate([counted, attacked]),
                runs.labels,
            )
    names = (repetition.BATCH_MATES, repetition.TRAINING_MODE)
    if not set(names) & set(wanted):
        return
    batched = given.batched
    assert batched is not None, _UNWANTED

    def ask(images: np.ndarray) -> np.ndarray:
        return np.asarray(batched(runs.params, jnp.asarray(images)))

    together, few = ask(runs.images), runs.images[:8]
    alone = np.concatenate([ask(image[None]) for image in few])
    yield repetition.same_with_any_mates(together[: len(few)], alone)
    if runs.random:
        yield skipped(repetition.TRAINING_MODE, "the classifier is random")
    else:
        yield repetition.same_as_evaluated(
            runs.clean_logits, together, ask(runs.images)
        )


def _operations(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del given, wanted
    program = _program(runs.apply, runs, runs.params)
    yield operations.passable(program, "the evaluated classifier")


_PROJECTED = (
    projections.IN_RANGE,
    projections.NOISE_ERROR,
    projections.ERRORS,
    projections.BASIN,
    projections.TWICE,
    projections.FOUND_AGAIN,
)


def _projected(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    assert given.projection is not None, _UNWANTED
    projection, key = given.projection, keys.stream(runs.key, "projections")

    def project(images: np.ndarray) -> Any:
        return probe.project(projection, np.clip(images, 0, 1), key=key)

    clean = project(runs.images)
    if projections.IN_RANGE in wanted:
        made = probe.generate(projection, np.asarray(clean.latent))
        yield projections.in_range(clean.image, made)
    if projections.NOISE_ERROR in wanted:
        noise_key = keys.stream(key, "noise")
        noise = np.asarray(jax.random.uniform(noise_key, runs.images.shape))
        yield projections.noise_has_error(noise, project(noise).image)
    if projections.ERRORS in wanted:
        attacked = project(runs.main.images)
        yield projections.projection_errors(clean.error, attacked.error)
    if projections.BASIN in wanted:
        dropped = np.asarray(clean.restart_status) == Status.DROPPED
        yield projections.best_basin(clean.restart_errors, dropped)
    if projections.TWICE in wanted:
        yield projections.projected_twice(clean.error, project(clean.image).error)
    if projections.FOUND_AGAIN in wanted:
        generated = probe.generate(projection, np.asarray(projection.latents))
        yield projections.generated_found_again(project(generated).error)


def _paired(runs: Runs, given: Given, wanted: Collection[str]) -> Iterator[Check]:
    del wanted
    assert given.pairs is not None, _UNWANTED
    found, eta, norm, judge = given.pairs
    yield projections.pairs_hold(found, eta, norm)
    if judge is None:
        yield skipped(projections.JUDGE, "no independent judge was given")
        return
    images = found.images[found.found]
    classes = np.zeros((0, 2), np.int64)
    if len(images):
        flat = images.reshape(-1, *images.shape[2:])
        logits = outputs_of(judge.apply, judge.params, flat, key=runs.key)
        classes = np.argmax(logits, axis=-1).reshape(-1, 2)
    yield projections.judged_as_one(classes)


class Suite(NamedTuple):
    """Some checks, and what makes them."""

    names: tuple[str, ...]
    make: Callable[[Runs, Given, Collection[str]], Iterator[Check]]


SUITES: tuple[Suite, ...] = (
    Suite(
        (
            budgets.ZERO_BUDGET,
            budgets.WITHIN_BUDGET,
            budgets.GROWING_BUDGET,
            budgets.ANY_BUDGET,
        ),
        _budgets,
    ),
    Suite(
        (
            ordering.SINGLE_STEP,
            ordering.MORE_STEPS,
            ordering.MORE_RESTARTS,
            ordering.SCORES,
            ordering.TRANSFER,
            ordering.NOISE,
            ordering.VIEW,
        ),
        _orders,
    ),
    Suite((strength.STRENGTH,), _strength),
    Suite((binarisation.ACTIVE,), _active),
    Suite(
        (
            gradients.of_stage(gradients.CLASSIFIER),
            gradients.of_stage(gradients.DEFENDED),
            gradients.of_stage(gradients.SEEN),
            gradients.CROSS_ENTROPY,
        ),
        _gradients,
    ),
    Suite((gradients.LOGIT_SCALE, gradients.PROBABILITIES, gradients.CLASSES), _logits),
    Suite((search.SILENT_SUCCESS, search.UNFINISHED, search.COST), _search),
    Suite(
        (repetition.KEYS, repetition.BATCH_MATES, repetition.TRAINING_MODE),
        _repeated,
    ),
    Suite((operations.OPERATIONS,), _operations),
    Suite(_PROJECTED, _projected),
    Suite((projections.PAIRS, projections.JUDGE), _paired),
)
"""All checks, in the order in which they are told."""
