"""The one call: what a classifier, behind a defence, is worth under attack."""

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from robust_manifold import defenses
from robust_manifold.core import batching
from robust_manifold.core.checks import (
    checked_images,
    checked_key,
    checked_labels,
    checked_radius,
)
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.defenses import Defense
from robust_manifold.evaluation import Check
from robust_manifold.evaluation.cascades import (
    Cascade,
    Effort,
    efforts,
    joined,
    registry,
)
from robust_manifold.robustness import stored, told
from robust_manifold.robustness.asked import EPSILONS, Rows, asked
from robust_manifold.robustness.audited import audited, checks_of
from robust_manifold.robustness.certified import certified_notes
from robust_manifold.robustness.evaluation import Evaluation
from robust_manifold.robustness.making import Round, made, rounds_of
from robust_manifold.robustness.subject import (
    Part,
    Subject,
    digest_of,
    subject_of,
)
from robust_manifold.runtime.output_folder import OutputFolder

_ROUND = 50
"""Images that are attacked, and stored, together."""
_FEW = 4
"""Images whose outputs tell one function from another."""
_FILE = "round-{:03d}.npz"
_AUDIT = "audit.json"


def evaluate(
    classifier: tuple[Callable[..., Any], Params],
    images: Any,
    labels: Any,
    *,
    defence: Defense | str | Callable[..., Any] | None = None,
    networks: Mapping[str, tuple[Any, Params]] | None = None,
    epsilons: Mapping[str, float | Sequence[float]] = EPSILONS,
    effort: str | Effort = "standard",
    worst_case: str | Cascade | Mapping[str, Any] | None = None,
    key: PRNGKey | None = None,
    ids: Any = None,
    minutes: float | None = None,
    checks: Collection[str] | None = None,
    on_progress: told.OnProgress = "print",
    folder: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Returns what a classifier is worth under attack, with flags where it misleads.

    A cascade attacks it: by every way to differentiate the defence, aimed and unaimed,
    from several starts, from images that break the bare network, and by scores alone,
    each on what all before it have left.  An audit then asks whether the figures can
    be believed.

    Args:
      classifier: `(apply, params)`, where `apply(params, image) -> logits` for ONE
        image in [0, 1], or what `robust_manifold.adapters` makes of a model.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes.
      defence: None; a defence of the package, or its text in a config; or a function
        `image -> image`, or `(key, image) -> image` where it draws at random.  One
        that JAX cannot trace is given NumPy arrays, and the words of the key, fit for
        `np.random.default_rng`; no gradient passes it.
      networks: those that a defence of the package needs, each with its parameters,
        by role, such as `{"generator": (spanner, params)}`.
      epsilons: radii of balls by norm ("linf", "l2", "l1"), on pixels in [0, 1]; of
        "l0" how many values may change.
      effort: "quick" (about a minute for 200 digits and a small network), "standard",
        "thorough", or one's own.
      worst_case: instead of that cascade, one as a config writes it, or rows,
        `{"attacks": [...], "adversaries": [...]}`, each made as a run makes it whose
        root key is `key`.  Rows, and a cascade with keys="fixed", which its text has
        by default, meet a random defence under one key an image that the attack
        knows.  Otherwise its keys are fresh, as its user has them, and accuracy is a
        mean over keys.
      key: the root of all randomness; `jax.random.key(0)` by default.
      ids: global ids [n] of the images, on which with the key their randomness depends;
        0..n-1 by default.
      minutes: that the attack may take.  Images are attacked in rounds of 50, and no
        round is begun which would not end in time, were it as long as the longest so
        far; the first is always made.  What is returned is about those images alone.
      checks: names of the checks of the audit to make, of `evaluation.AUDIT_CHECKS`; by
        default those that `effort` has time for.
      on_progress: "print" draws a bar on a terminal and writes lines with the time
        left into a log; None is silent; a function is called with
        `(done, of, doing)`.
      folder: keeps each finished round of images: the same call, killed and made
        again, goes on from there and comes to the same.

    Raises:
      UsageError: for arguments of another form, and for a folder of another
        evaluation.
    """
    told.check(on_progress)
    _check_folder(folder)
    limit = None if minutes is None else checked_radius("minutes", minutes)
    names = checks_of(effort, checks)
    given = {"minutes": limit, "checks": None if checks is None else names}
    root = checked_key(jax.random.key(0) if key is None else key)
    images = checked_images(images)
    subject = subject_of(classifier, defence, networks, images, root)
    labels = checked_labels(labels, len(images), subject.judged.classes(images))
    ids = batching.checked_ids(ids, len(images))
    every = Part(images, labels, ids)
    wanted = asked(worst_case, epsilons, effort, subject.judged.defence)
    with _opened(folder, subject, wanted, effort, every, given) as store:
        found = _rounds(subject, wanted, every, limit, store, on_progress)
        budgets = tuple(
            joined([each.budgets[place] for each in found])
            for place in range(len(found[0].budgets))
        )
        part = every.take(slice(sum(len(each.clean) for each in found)))
        made_checks = _audit(
            subject, wanted, found[0], part, effort, names, store, on_progress
        )
    return Evaluation(
        name=subject.name,
        clean_images=part.images,
        labels=part.labels,
        clean=np.concatenate([each.clean for each in found]),
        budgets=budgets,
        audit=tuple(made_checks),
        notes=(
            *_notes(subject, wanted, found[0]),
            *certified_notes(
                subject.judged,
                part.images,
                part.labels,
                [each.budget for each in found[0].budgets],
            ),
        ),
        effort=_effort_text(effort),
        seconds=sum(each.seconds for each in found),
    )


def _effort_text(effort: str | Effort) -> str:
    return effort if isinstance(effort, str) else efforts.to_string(effort)


def _check_folder(folder: Any) -> None:
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise UsageError(f"folder is {folder!r}; allowed: a path, or None.")


def _opened(
    folder: Any,
    subject: Subject,
    wanted: Cascade | Rows,
    effort: str | Effort,
    every: Part,
    given: Mapping[str, Any],
) -> Any:
    """Returns the folder, opened for this evaluation alone; nothing without one."""
    if folder is None:
        return contextlib.nullcontext()
    few = every.take(slice(_FEW))
    rows = isinstance(wanted, Rows)
    request = {
        "defence": subject.name,
        "worst_case": str(wanted) if rows else registry.to_string(wanted),
        "effort": _effort_text(effort),
        **{name: digest_of(array)[:12] for name, array in every._asdict().items()},
        "key": digest_of(subject.key)[:12],
        "params": digest_of(subject.judged.params)[:12],
        # Of a function nothing else is known than what it does.
        "outputs": [
            [f"{value:.2e}" for value in each]
            for each in subject.outputs(few.images, few.ids).tolist()
        ],
        "version": _version(),
        # A folder of before there were these is that of a call without them.
        **{name: value for name, value in given.items() if value is not None},
    }
    return OutputFolder(folder, request, name="folder", what="evaluation")


def _version() -> str:
    try:
        return importlib.metadata.version("robust_manifold")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _rounds(
    subject: Subject,
    wanted: Cascade | Rows,
    every: Part,
    minutes: float | None,
    store: OutputFolder | None,
    on_progress: told.OnProgress,
) -> list[Round]:
    """Returns the rounds there is time for, those stored before as they were."""
    found: list[Round] = []
    places = rounds_of(len(every.labels), _ROUND)
    files = [_FILE.format(number) for number in range(len(places))]
    if store is not None:
        for file in files:
            if not store.has(file):
                break
            found.append(stored.round_from(store.read_npz(file)))
    begun, n = len(found), len(every.labels)
    done = places[begun].start if begun < len(places) else n
    with told.telling(on_progress, "worst case", n, "images", start=done) as tell:
        for file, place in list(zip(files, places, strict=True))[begun:]:
            if found and minutes is not None and _over(found, 60 * minutes):
                break
            size = place.stop - place.start

            def within(share: float, by: str, place=place, size=size) -> None:
                tell(place.start + int(size * share), by)

            pool = every.images, every.labels
            ways = _ways(found[0]) if found else None
            each = made(subject, wanted, every.take(place), pool, ways, within)
            if store is not None:
                store.write_npz(file, stored.round_arrays(each))
            found.append(each)
            tell(place.stop, "")
    return found


def _over(found: Sequence[Round], seconds: float) -> bool:
    """Returns whether one more round, as long as the longest, would take too long."""
    took = [each.seconds for each in found]
    return sum(took) + max(took) > seconds


def _ways(first: Round) -> list[defenses.Adversary] | None:
    """Returns the ways to differentiate the defence that the first round ranked."""
    return [each.adversary for each in first.tried] or None


def _audit(
    subject: Subject,
    wanted: Cascade | Rows,
    first: Round,
    part: Part,
    effort: str | Effort,
    names: Sequence[str],
    store: OutputFolder | None,
    on_progress: told.OnProgress,
) -> list[Check]:
    """Returns the checks of the audit, stored or made."""
    if store is not None and store.has(_AUDIT):
        return [Check(**each) for each in store.read_json(_AUDIT)]
    checks = audited(subject, wanted, first, part, effort, names, on_progress)
    if store is not None:
        store.write_json(_AUDIT, [each._asdict() for each in checks])
    return checks


def _notes(subject: Subject, wanted: Cascade | Rows, first: Round) -> list[str]:
    """Returns what a reader of the figures has to know, a sentence each."""
    notes = []
    if subject.opaque:
        notes.append(
            f"JAX cannot trace {subject.name}: it was attacked straight through, by "
            "images of the bare network, and by scores; no other gradient was to be "
            "had."
        )
    fixed = isinstance(wanted, Rows) or wanted.keys == "fixed"
    if subject.random:
        notes.append(
            "The defence draws at random. It had one key for each image, which the "
            "attack knew."
            if fixed
            else "The defence draws at random, under keys that the attack does not "
            "know: accuracy is a mean over 8 fresh keys."
        )
    if first.tried:
        ways = [
            f"{defenses.adversaries.to_string(each.adversary)} "
            f"({int(each.broken.sum())} of {len(each.rate)})"
            for each in first.tried
        ]
        notes.append(f"Ways through the defence, best first: {', '.join(ways)}.")
    return notes
