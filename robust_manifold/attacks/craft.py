"""From an attack on one image to adversarial examples of many."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer

from robust_manifold.attacks.base import (
    Attack,
    Ensemble,
    Problem,
    SteppedAttack,
    warn,
)
from robust_manifold.attacks.cautions import check_black_box, check_budget
from robust_manifold.attacks.contract import (
    check_function,
    check_not_traced,
    output_of,
)
from robust_manifold.attacks.crafted import Crafted, MemberDone
from robust_manifold.attacks.outputs import check_outputs, loop_form
from robust_manifold.attacks.random import Apply, Expectation, bound
from robust_manifold.core import batching, keys, loops, norms
from robust_manifold.core.checks import (
    checked_budgets,
    checked_images,
    checked_key,
    checked_labels,
)
from robust_manifold.core.criterion import (
    MISCLASSIFIED,
    Criterion,
    Targeted,
    checked_criterion,
)
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import (
    Classify,
    Image,
    Params,
    PRNGKey,
    Scalar,
    Target,
)


class _Example(NamedTuple):
    image: Image
    label: Target
    """What the criterion compares the output with."""
    epsilon: Scalar
    start: Image | None = None
    """Where the attack begins, if that is given."""
    fixed: Integer[Array, " words"] | None = None
    """The data of the key that a random classifier gets in every call, if one is."""


class _Seen(NamedTuple):
    """What an attack meets."""

    apply: Apply
    """The evaluated function."""
    view: Apply
    """What the attack may differentiate."""
    outputs: int
    """Entries of one output that the attack looks at: logits of classes, say."""
    criterion: Criterion = MISCLASSIFIED
    """What the attack wants of the evaluated function's outputs."""
    key_impl: Any = None
    """The kind of the fixed keys; None if there are none."""

    @property
    def draws(self) -> bool:
        """Whether what the attack sees differs from call to call."""
        return isinstance(self.view, Expectation) and self.key_impl is None

    @property
    def exact(self) -> bool:
        """Whether the view has the logits of the evaluated function."""
        view, apply = self.view, self.apply
        if view == apply:
            return True
        if not (isinstance(view, Expectation) and isinstance(apply, Expectation)):
            return False
        if view.samples > 1 or apply.samples > 1:
            return False
        stands_for = getattr(view.apply, "stands_for", None)
        return stands_for is not None and stands_for(apply.apply)

    def bound(
        self, apply: Apply, params: Params, key: PRNGKey, example: _Example
    ) -> Classify:
        """Returns a function of one image; `key` is used unless a key is fixed."""
        if example.fixed is None:
            return bound(apply, params, key)
        fixed = jax.random.wrap_key_data(example.fixed, impl=self.key_impl)
        return bound(apply, params, fixed, fixed=True)


@dataclasses.dataclass(frozen=True)
class _CraftOne:
    """A stepped attack on one image as a loop, hashed by value.

    Attributes:
      attack: without its budget, which the example has.
      seen: what it is made on.
    """

    attack: SteppedAttack[Any]
    seen: _Seen

    def loop(self) -> loops.Loop:
        attack = self.attack
        return loops.Loop(
            begin=_Begin(self),
            step=_Step(self),
            finish=_Finish(self),
            steps=attack.iterations,
            ended=_Ended(attack) if self.ends_early else None,
        )

    @property
    def ends_early(self) -> bool:
        """Whether some images may be ready before the others.

        What fools a view with other logits, or one draw of a random classifier, need
        not fool the evaluated one: a first success is then no reason to stop.  With
        fixed keys there is but one draw.
        """
        exact = self.seen.exact and not self.seen.draws
        return self.attack.ends_early and (exact or not self.attack.ends_at_success)

    def problem(self, params: Params, key: PRNGKey, example: _Example) -> Problem:
        """Returns the problem of a step; a random view gets the step's key."""
        own = keys.stream(key, "classifier")
        return Problem(
            self.seen.bound(self.seen.view, params, own, example),
            example.image,
            example.label,
            example.epsilon,
            self.seen.criterion,
            example.start,
        )


@dataclasses.dataclass(frozen=True)
class _Begin:
    craft: _CraftOne

    def __call__(self, params: Params, key: PRNGKey, example: _Example) -> Any:
        problem = self.craft.problem(params, key, example)
        return self.craft.attack.begin(problem, key)


@dataclasses.dataclass(frozen=True)
class _Step:
    craft: _CraftOne

    def __call__(self, params: Params, key: PRNGKey, example: _Example, state) -> Any:
        problem = self.craft.problem(params, key, example)
        return self.craft.attack.step(problem, key, state)


@dataclasses.dataclass(frozen=True)
class _Ended:
    attack: SteppedAttack[Any]

    def __call__(self, state: Any) -> Bool[Array, ""]:
        return self.attack.ended(state)


@dataclasses.dataclass(frozen=True)
class _Finish:
    craft: _CraftOne

    def __call__(
        self, params: Params, key: PRNGKey, example: _Example, state, steps
    ) -> Crafted:
        craft = self.craft
        problem = craft.problem(params, key, example)
        image = craft.attack.finish(problem, key, state)
        queries = craft.attack.spent(state, steps, craft.seen.outputs)
        own = keys.stream(key, "evaluation")
        logits = craft.seen.bound(craft.seen.apply, params, own, example)(image)
        distance = norms.norm(image - example.image, craft.attack.norm)
        success = craft.seen.criterion.succeeds(logits, example.label)
        return Crafted(image, success, distance, queries, logits, jnp.int32(0))


def craft(
    attack: Attack,
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    targets: Any = None,
    criterion: Criterion | None = None,
    starts: Any = None,
    view: Apply | None = None,
    fixed_keys: Any = None,
    batch_size: int | None = None,
    tile: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
    on_member: Callable[[MemberDone], None] | None = None,
) -> Crafted:
    """Returns adversarial examples for a batch, compiled, in chunks, on all devices.

    The result for an image depends on its id and `key`, never on its batch mates.
    Calls with equal attacks, whatever their budget, the same `apply` and equal shapes
    compile once.

    Args:
      attack: for instance `PGD(epsilon=0.3)`.
      apply: `apply(params, image) -> logits [classes]`, for one image in [0, 1]; any
        normalisation belongs inside.  Pass one function again and again, rather than
        a new lambda each time, which would compile anew.  All that changes from call
        to call belongs into `params`.  For a random classifier an `Expectation`.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes; with another criterion what that compares the
        outputs with.
      key: the root of all randomness of the attack.
      targets: [n], the classes to reach, for a targeted attack: a shorthand of
        `criterion=Targeted()` with these as labels.
      criterion: what the attack wants of the outputs, such as
        `Deviates(tolerance=10.0)` of a regression; by default `Misclassified()`.
      starts: [n, height, width, channels], images at which an attack that iterates
        begins, each brought into the ball of its clean image; None: where it begins by
        itself.
      view: what the attack sees in place of `apply`, with the same arguments;
        successes are still those against `apply`, and a first success against the
        view ends no search, unless `view.apply.stands_for(apply.apply)` says that they
        have the same logits, as views of a defence have.  An attack that minimises the
        distance looks for the view's boundary.
      fixed_keys: [n] keys: what a random classifier, and a random view, gets for each
        image in every step and in the evaluation.  The first of an `Expectation`'s
        samples has that very key.  None: another key in each step.
      batch_size: images worked on together; results do not depend on it.
      tile: images that a device computes at once; by default as many as are fast and
        memory allows, however few there are.  1 is quickest for one image alone, and
        rounds otherwise than other tiles.
      ids: global ids [n] of the images; 0..n-1 by default.
      loop: "scan" compiles many steps as one program, "python" calls a compiled step
        again and again; by default the latter only on a CPU and for functions that
        hold XLA's own convolutions, which are slow inside loops there.
      on_chunk: called with (images ready, n) whenever some are.
      on_member: called after each member of an ensemble; `print` tells what is left.

    Raises:
      UsageError: for images, labels or logits of the wrong shape, type or range.

    Warns:
      AttackWarning: if a loss had to be replaced for lack of classes, if outputs look
        like probabilities, if some clean images have NaN logits, or if an ensemble is
        not made for random classifiers.
    """
    task = _task(
        attack,
        apply,
        params,
        images,
        labels,
        key=key,
        targets=targets,
        criterion=criterion,
        starts=starts,
        view=view,
        fixed_keys=fixed_keys,
        ids=ids,
        tile=tile,
    )
    check_budget(attack.budget, attack.norm, task.images.shape[1:])
    found = _crafted(
        task.attack,
        task,
        params,
        key,
        batch_size=batch_size,
        tile=tile,
        form=loop_form(task.seen.view, params, task.images) if loop is None else loop,
        on_chunk=on_chunk,
        on_member=on_member,
    )
    members = _members(task.attack, task.seen)
    if not task.seen.draws:
        check_black_box(members, found.success, found.member, len(task.images))
    return jax.device_put(found)


def craft_grid(
    attack: Attack,
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    epsilons: Sequence[float],
    *,
    key: PRNGKey,
    targets: Any = None,
    criterion: Criterion | None = None,
    starts: Any = None,
    view: Apply | None = None,
    fixed_keys: Any = None,
    batch_size: int | None = None,
    tile: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
    on_member: Callable[[MemberDone], None] | None = None,
) -> Crafted:
    """Returns the adversarial examples at each of some budgets, stacked in front.

    An image that falls at one budget is carried over to all larger ones, which are
    tried on the others alone: accuracy never rises with the budget.  An attack that
    minimises the distance is run once, and succeeds at budgets no smaller than the
    distance found.  `queries` are those of a budget alone: their sum is what was asked
    in all.

    Args:
      attack: its own `epsilon` is not used.
      apply: as for `craft`.
      params: as for `craft`.
      images: as for `craft`.
      labels: as for `craft`.
      epsilons: rising, in the attack's norm.
      key: as for `craft`.
      targets: as for `craft`.
      criterion: as for `craft`.
      starts: as for `craft`.
      view: as for `craft`.
      fixed_keys: as for `craft`.
      batch_size: as for `craft`.
      tile: as for `craft`.
      ids: as for `craft`.
      loop: as for `craft`.
      on_chunk: as for `craft`, told at each budget.
      on_member: as for `craft`, told at each budget of the images that stood there.

    Raises:
      UsageError: as `craft`; also unless the budgets rise from 0 or more, and for a
        budget that the attack refuses.
    """
    budgets = checked_budgets(epsilons)
    task = _task(
        attack,
        apply,
        params,
        images,
        labels,
        key=key,
        targets=targets,
        criterion=criterion,
        starts=starts,
        view=view,
        fixed_keys=fixed_keys,
        ids=ids,
        tile=tile,
    )
    attack = task.attack
    options = {
        "batch_size": batch_size,
        "tile": tile,
        "form": loop_form(task.seen.view, params, task.images)
        if loop is None
        else loop,
        "on_member": on_member,
    }
    check_budget(budgets[-1], attack.norm, task.images.shape[1:])
    if attack.budget is None:
        nearest = _crafted(attack, task, params, key, on_chunk=on_chunk, **options)
        rows = [nearest] + [_without_queries(nearest)] * (len(budgets) - 1)
        return _stacked(
            row._replace(success=row.success & (row.distance <= budget))
            for row, budget in zip(rows, budgets, strict=True)
        )
    members = _members(attack, task.seen)
    found: list[Crafted] = []
    told = task.seen.draws
    for budget in budgets:
        left = _unbroken(found[-1] if found else None, len(task.images))
        if not left.size:
            found.append(_without_queries(found[-1]))
            continue
        made = _crafted(
            dataclasses.replace(attack, epsilon=budget),  # type: ignore[type-var]
            task.take(left),
            params,
            key,
            on_chunk=_after(on_chunk, len(task.images) - left.size),
            **options,
        )
        told = told or check_black_box(
            members, made.success, made.member, len(task.images)
        )
        if found:
            made = _merged(_without_queries(found[-1]), made, left, keep=False)
        found.append(made)
    return _stacked(found)


def _stacked(rows: Iterable[Crafted]) -> Crafted:
    """Returns what was found at each budget as JAX arrays, stacked in front."""
    return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


class _Task(NamedTuple):
    """Checked images to attack, with their targets, starts and keys."""

    attack: Attack
    seen: "_Seen"
    images: np.ndarray
    labels: Any
    """What the criterion compares the outputs with, with a leading axis."""
    starts: np.ndarray | None
    ids: np.ndarray
    fixed: np.ndarray | None
    """The data of the fixed keys."""

    def take(self, places: np.ndarray) -> "_Task":
        """Returns the task for some of the images."""
        return self._replace(
            images=self.images[places],
            labels=jax.tree.map(lambda leaf: leaf[places], self.labels),
            starts=None if self.starts is None else self.starts[places],
            ids=self.ids[places],
            fixed=None if self.fixed is None else self.fixed[places],
        )


def _task(
    attack,
    apply,
    params,
    images,
    labels,
    *,
    key,
    targets,
    criterion,
    starts,
    view,
    fixed_keys,
    ids,
    tile,
) -> _Task:
    """Returns what is to be attacked, checked; arguments as for `craft`."""
    check_not_traced(
        params=params,
        images=images,
        labels=labels,
        targets=targets,
        starts=starts,
        key=key,
        fixed_keys=fixed_keys,
        ids=ids,
    )
    check_function("apply", apply)
    if view is not None:
        check_function("view", view)
    checked_key(key)
    images = checked_images(images)
    criterion = _checked_criterion(criterion, targets)
    output = _checked_output(apply, view, params, images, criterion)
    if targets is None:
        labels = criterion.check(output, labels, len(images))
    else:
        labels = _checked_targets(
            targets, checked_labels(labels, len(images), output.size), output.size
        )
    ids = batching.checked_ids(ids, len(images))
    fixed, key_impl = checked_fixed_keys(fixed_keys, len(images))
    outputs = criterion.classes_among(output.size)
    seen = _Seen(apply, apply if view is None else view, outputs, criterion, key_impl)
    attack = _fitting(attack, seen)
    starts = _checked_starts(starts, images, attack, seen)
    check_outputs(
        apply,
        params,
        images,
        labels,
        key=key,
        view=view,
        gradients=any(
            member.cost(outputs).backwards > 0 for member in _members(attack, seen)
        ),
        criterion=criterion,
        fixed_keys=fixed_keys,
        tile=tile,
    )
    return _Task(attack, seen, images, labels, starts, ids, fixed)


def _crafted(
    attack: Attack,
    task: _Task,
    params: Params,
    key: PRNGKey,
    *,
    on_chunk: Callable[[int, int], None] | None,
    on_member: Callable[[MemberDone], None] | None,
    **options: Any,
) -> Crafted:
    """Returns what an attack, or one member of an ensemble after another, makes.

    It is held as NumPy arrays: JAX would compile each operation on them for each
    number of images anew.
    """
    members = _members(attack, task.seen)
    n = len(task.images)
    found: Crafted | None = None
    for place, member in enumerate(members):
        left = _unbroken(found, n)
        if not left.size:
            break
        part = task.take(left)
        made = loops.map_loop(
            _CraftOne(member.without_budget(), task.seen).loop(),
            params,
            _examples(part, member.budget),
            # A single attack's randomness is that of its `run`.
            key=jax.random.fold_in(key, place) if len(members) > 1 else key,
            ids=part.ids,
            on_chunk=_teller(on_chunk, n, len(left), len(members) - place),
            **options,
        )
        made = jax.tree.map(np.asarray, made)
        made = made._replace(member=np.full(len(left), place, np.int32))  # type: ignore[arg-type]
        found = made if found is None else _merged(found, made, left)
        if on_member is not None and isinstance(attack, Ensemble):
            broken = int(np.sum(np.asarray(made.success)))
            on_member(MemberDone(member, len(left), broken, n))
    assert found is not None
    return found


def _checked_criterion(criterion: Any, targets: Any) -> Criterion:
    """Returns the criterion of a call; `targets` are a shorthand of one."""
    if targets is None:
        return checked_criterion(criterion)
    if criterion not in (None, Targeted()):
        raise UsageError(
            f"criterion is {criterion!r} beside targets; allowed: targets alone, or "
            "Targeted() with the classes to reach as labels."
        )
    return Targeted()


def _checked_output(
    apply: Apply, view: Apply | None, params, images, criterion: Criterion
) -> jax.ShapeDtypeStruct:
    """Returns the shape and type of one output of both functions."""
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    output = output_of(apply, params, image, criterion)
    if view is None:
        return output
    other = output_of(view, params, image, criterion, "view")
    if other.shape != output.shape:
        given = (
            (f"{other.size} logits", f"{output.size}")
            if criterion.classes
            else (f"{other.shape}", f"{output.shape}")
        )
        raise UsageError(
            f"view gives {given[0]} and apply {given[1]}; allowed: equally many."
        )
    return output


def _checked_starts(
    starts: Any, images: np.ndarray, attack: Attack, seen: _Seen
) -> np.ndarray | None:
    """Returns the images that an attack begins at, checked."""
    if starts is None:
        return None
    try:
        starts = checked_images(starts)
    except UsageError as error:
        raise UsageError(str(error).replace("images", "starts", 1)) from None
    if starts.shape != images.shape:
        raise UsageError(
            f"starts have the shape {starts.shape}; allowed: that of images, "
            f"{images.shape}."
        )
    for member in _members(attack, seen):
        if not member.takes_start:
            raise UsageError(
                f"starts are given to {type(member).__name__}, which begins by itself; "
                "allowed: an attack that iterates from an image, such as PGD or APGD."
            )
    return starts.astype(images.dtype)


def _checked_targets(targets: Any, labels: np.ndarray, classes: int) -> np.ndarray:
    try:
        targets = checked_labels(targets, len(labels), classes)
    except UsageError as error:
        raise UsageError(str(error).replace("labels", "targets", 1)) from None
    same = np.flatnonzero(targets == labels)
    if same.size:
        raise UsageError(
            f"targets[{same[0]}] is {targets[same[0]]}, the image's own label; "
            "allowed: another class."
        )
    return targets


def checked_fixed_keys(fixed_keys: Any, n: int) -> tuple[np.ndarray | None, Any]:
    """Returns the data of the keys as [n, words], and their kind; None without keys."""
    if fixed_keys is None:
        return None, None
    dtype = getattr(fixed_keys, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed or fixed_keys.shape != (n,):
        shape = getattr(fixed_keys, "shape", type(fixed_keys).__name__)
        raise UsageError(
            f"fixed_keys are {shape} of type {dtype}; allowed: {n} keys, one an image, "
            "as in jax.random.split(jax.random.key(0), n)."
        )
    data = np.asarray(jax.random.key_data(fixed_keys))
    return data, jax.random.key_impl(fixed_keys)


def _examples(task: _Task, budget: float | None) -> _Example:
    budgets = np.full(len(task.images), budget or 0, task.images.dtype)
    images: Any = task.images
    return _Example(images, task.labels, budgets, task.starts, task.fixed)  # type: ignore[arg-type]


def _fitting(attack: Any, seen: _Seen) -> Any:
    """Returns the attack as it is made for the classes, and tells of any change."""
    if not isinstance(attack, Attack):
        raise UsageError(
            f"attack is {attack!r}; allowed: an attack, such as PGD(epsilon=0.1), or "
            "attacks.registry.build('pgd(epsilon=0.1)')."
        )
    if seen.draws and not attack.suits_random:
        warn(
            f"{attack} is made for classifiers that are not random, and overrates this "
            "one: its members take one lucky draw for a success."
        )
    fitting = attack.fitting(seen.criterion, seen.outputs)
    if fitting != attack:
        warn(
            f"{attack} does not suit {seen.outputs} classes; {fitting} is made instead."
        )
    return fitting


def _members(attack: Attack, seen: _Seen) -> list[SteppedAttack[Any]]:
    """Returns an ensemble's attacks, or the attack alone."""
    if isinstance(attack, Ensemble):
        return attack.fitting_members(seen.criterion, seen.outputs)
    assert isinstance(attack, SteppedAttack)
    return [attack]


def _unbroken(found: Crafted | None, n: int) -> np.ndarray:
    """Returns the places of the images on which nothing has succeeded so far."""
    if found is None:
        return np.arange(n)
    return np.flatnonzero(~found.success)


def _without_queries(found: Crafted) -> Crafted:
    return found._replace(queries=jax.tree.map(np.zeros_like, found.queries))


def _merged(
    found: Crafted, made: Crafted, left: np.ndarray, keep: bool = True
) -> Crafted:
    """Returns what was found, with what was made of the images at `left`.

    Args:
      found: of all images.
      made: of those at `left`.
      left: places.
      keep: where `made` has not succeeded either, what was found stays.
    """
    success = np.asarray(made.success)
    taken = left[success] if keep else left

    def merged(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        result = old.copy()
        result[taken] = new[success] if keep else new
        return result

    def added(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        result = old.copy()
        result[left] += new
        return result

    queries = jax.tree.map(added, found.queries, made.queries)
    return jax.tree.map(merged, found, made)._replace(queries=queries)


def _after(
    on_chunk: Callable[[int, int], None] | None, done: int
) -> Callable[[int, int], None] | None:
    """Returns the callback for some images that counts others as done before."""
    if on_chunk is None:
        return None
    return lambda ready, n: on_chunk(done + ready, done + n)


def _teller(
    on_chunk: Callable[[int, int], None] | None, n: int, left: int, members: int
) -> Callable[[int, int], None] | None:
    """Returns the callback that tells of images which no later member is tried on.

    Args:
      on_chunk: the user's.
      n: images in all.
      left: those that this member is made on.
      members: this one and those after it.
    """
    if on_chunk is None:
        return None

    def tell(ready: int, of: int) -> None:
        del of
        # Whether later members go on with an image is known when this one is done.
        on_chunk(n - left + ready // members, n)

    return tell
