"""The loop around every train step: resumption, progress, metrics, checkpoints.

The order in one iteration is fixed: step, log, poll for a stop, validate, checkpoint.
All randomness and the batch follow from the number of the step, so a resumed training
repeats the uninterrupted one exactly.
"""

import contextlib
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from robust_manifold import data
from robust_manifold.core import batching, keeping
from robust_manifold.core.types import Params
from robust_manifold.runtime import (
    Checkpoints,
    Diverged,
    Interrupted,
    Pause,
    Progress,
    Saved,
)
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained

SCORE = "validation_accuracy"
"""The measure by which the best parameters are kept, unless a task has its own."""


class Task(NamedTuple):
    """One training, as the loop needs it."""

    name: str
    """The role of what is trained."""
    init: Callable[[], Any]
    """Returns the state before the first step."""
    step: Callable[[Any, data.Batch], tuple[Any, Any]]
    """Returns the state and the metrics (a NamedTuple of scalars) after one batch."""
    params: Callable[[Any], Params]
    """Returns, from a state, the parameters that later stages use."""
    steps: int
    batch_size: int
    """Images a step takes."""
    validate: Callable[[Params], Mapping[str, float]]
    """Returns what is measured on the validation split; without `score` among it,
    the last parameters are kept in place of the best."""
    metadata: Mapping[str, Any]
    """Stored beside the parameters."""
    score: str | None = SCORE
    """The measure by which the best parameters are kept; None: the last ones are."""
    mode: Literal["max", "min"] = "max"
    """Whether the best value of it is the largest or the smallest."""


def train(context: Context, task: Task) -> Any:
    """Trains to the end, from the last checkpoint if there is one; returns the state.

    Writes `checkpoints/<name>/{last,best,params}` and lines of `metrics.jsonl`.

    Raises:
      Diverged: if a logged metric is not finite.
      Interrupted: if the run was asked to stop; the state is saved.
    """
    stage, every = f"fit_{task.name}", context.experiment.training
    checkpoints = Checkpoints(
        context.folder.path / "checkpoints" / task.name,
        best=task.score,
        mode=task.mode,
    )
    state = batching.replicate(task.init())
    start, pending = 0, False
    if (restored := checkpoints.restore(state)) is not None:
        start, state = restored.step, batching.replicate(restored.state)
        pending = _PENDING in _known(checkpoints.last).metrics
    # The line of a validation that was not saved with its step is written again.
    logged = start % every.log_every == 0 or start == task.steps
    context.metrics.rewind(stage, start, of_step=int(logged) if pending else None)
    batches = data.training_batches(
        context.data.dataset.train,
        batch_size=task.batch_size,
        seed=_seed(context.experiment.seed, task.name),
        augment=data.flip_horizontally if context.experiment.data.flip else None,
    ).from_step(start)
    pause = Pause(context.stop)
    with (
        contextlib.closing(batches),
        Progress(task.steps, stage, start=start) as progress,
    ):
        if pending:
            _validate(context, task, checkpoints, start, state)
        for step in range(start + 1, task.steps + 1):
            state, metrics = task.step(state, batching.shard_local(next(batches)))
            progress.update(step, **metrics._asdict())
            if step % every.log_every == 0 or step == task.steps:
                _log(context, stage, step, metrics._asdict())
            whole = step % every.checkpoint_every == 0 or step == task.steps
            look = pause.look()
            if any(look):
                _check_finite(stage, step, task.params(state))
                _save(
                    context, checkpoints, step, state, {_PENDING: 1.0} if whole else {}
                )
                pause.stored()
            if look.stop:
                raise Interrupted(f"{stage} stopped after step {step} of {task.steps}")
            if whole:
                _validate(context, task, checkpoints, step, state)
    best = checkpoints.restore_best(state)
    final = state if best is None else best.state
    trained.save(
        context,
        task.name,
        task.params(final),
        dict(task.metadata) | {"step": task.steps if best is None else best.step},
    )
    return final


_PENDING = "pending"
"""Told of a checkpoint whose validation is still to come."""


def _validate(
    context: Context, task: Task, checkpoints: Checkpoints, step: int, state: Any
) -> None:
    """Measures the parameters after a step, and saves them with that."""
    stage = f"fit_{task.name}"
    _check_finite(stage, step, task.params(state))
    try:
        measured = dict(task.validate(task.params(state)))
    except Interrupted:
        _save(context, checkpoints, step, state, {_PENDING: 1.0})
        raise
    if measured:
        _log(context, stage, step, measured)
    _save(context, checkpoints, step, state, measured)
    keeping.forget()


def _save(
    context: Context,
    checkpoints: Checkpoints,
    step: int,
    state: Any,
    metrics: Mapping[str, float],
) -> None:
    context.folder.check_in_place()
    checkpoints.save(step, state, metrics)


def _known(saved: Saved | None) -> Saved:
    assert saved is not None
    return saved


def _log(context: Context, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
    """Writes one line of metrics; a value that is not finite ends the training."""
    values = {name: float(value) for name, value in metrics.items()}
    context.metrics.write(stage, step, **values)
    for name, value in values.items():
        if not math.isfinite(value):
            every = context.experiment.training.log_every
            raise Diverged(
                f"{stage} diverged: {name} is {value} at step {step} (it was finite "
                f"{every} steps before, or never logged); try a lower learning rate."
            )


def _check_finite(stage: str, step: int, params: Params) -> None:
    """Ends the training if a parameter to be stored is not finite."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise Diverged(
            f"{stage} diverged: a parameter is not finite after step {step}; try a "
            "lower learning rate."
        )


def _seed(seed: int, name: str) -> int:
    """Returns the seed of the order of the batches of one training."""
    mixed = np.random.SeedSequence([seed, zlib.crc32(name.encode())])
    return int(mixed.generate_state(1)[0])
