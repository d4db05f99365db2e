"""The substitute adversary: its networks are trained here, one for each target.

A target is a column of the table.  Whatever it is, it answers with labels alone, and
is asked about validation images, which no classifier was trained on and none is tested
on, and about images made from them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from robust_manifold import data, defenses, models, training
from robust_manifold.config import Column, Experiment
from robust_manifold.core.types import Params
from robust_manifold.runtime import (
    Diverged,
    Interrupted,
    Progress,
    console,
    devices,
    load_params,
    read_params_metadata,
)
from robust_manifold.stages.context import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.rows import folder_name, rows

ADVERSARY = "substitute"


def targets(experiment: Experiment) -> list[Column]:
    """Returns the columns that have a substitute, in the table's order."""
    every = rows(experiment.evaluation)
    return list(
        dict.fromkeys(row.target for row in every if row.adversary == ADVERSARY)
    )


def name_of(target: Column) -> str:
    """Returns the name under which a target's substitute is stored."""
    return f"{ADVERSARY}-{folder_name(target.text)}"


def fit(context: Context, target: Column) -> Params:
    """Returns the parameters of a target's substitute, trained if they are not stored.

    Writes `checkpoints/substitute-<target>/` and, so that no label is asked for twice,
    `substitutes/<target>/queries-NNN.npz`.

    Raises:
      Diverged: if a parameter is not finite.
      Interrupted: if the run was asked to stop.
    """
    name = name_of(target)
    folder = context.folder.path / trained.folder(name)
    if devices.agreed(any(folder.glob("*/manifest.json"))):
        return load_params(folder)
    spec, model = context.experiment.evaluation.substitute, context.networks.substitute
    with Progress(spec.queries, name, "labels") as progress:
        found = training.train_substitute(
            _Oracle(context, target, progress),
            spec,
            _seeds(context),
            classes=len(context.data.dataset.class_names),
            key=context.stream(f"{ADVERSARY}-{folder_name(target.stream_name)}"),
        )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.params)):
        raise Diverged(
            f"{name} diverged: a parameter is not finite; try a lower learning rate in "
            "config.evaluation.substitute."
        )
    trained.save(context, name, found.params, _metadata(context, target, model, found))
    console.info(
        f"{name}  {found.queries:,} labels asked for, "
        f"{found.history[-1].agreement:.1%} of them learned"
    )
    return found.params


def stored(context: Context, target: Column) -> dict[str, Any]:
    """Returns what is stored beside the parameters of a target's substitute."""
    folder = context.folder.path / trained.folder(name_of(target))
    return read_params_metadata(folder).metadata


def _metadata(
    context: Context,
    target: Column,
    model: models.Model,
    found: training.TrainedSubstitute,
) -> dict[str, Any]:
    """Returns what is stored beside the parameters of a substitute."""
    spec = context.experiment.evaluation.substitute
    return {
        "model": models.registry.to_string(spec.model),  # type: ignore[arg-type]
        "training": training.substitutes.to_string(spec),
        "target": target.text,
        "input_shape": list(model.input_shape),
        "output_shape": list(model.output_shape),
        "queries": found.queries,
        "history": [told._asdict() for told in found.history],
    }


def _seeds(context: Context) -> np.ndarray:
    """Returns the adversary's own images: some of the validation split, at random."""
    split = context.data.dataset.validation
    # A source may have sorted them by class.
    order = jax.random.permutation(context.stream("substitute seeds"), split.size)
    chosen = np.asarray(order)[: context.experiment.evaluation.substitute.seeds]
    return data.to_float(split.images[chosen])


class _Oracle:
    """The labels that a defended classifier gives, each asked for once and stored.

    A run that goes on trains its substitute anew, which takes seconds, and finds here
    the answers that it had: they are kept with the images that they are of.
    """

    def __init__(self, context: Context, target: Column, progress: Progress):
        self._context, self._target, self._progress = context, target, progress
        self._params = trained.load_column(context, target)
        self._asked, self._files = 0, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        size = self._context.experiment.evaluation.round_size
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self._answer(part) for part in parts])

    def _answer(self, images: np.ndarray) -> np.ndarray:
        folder = self._context.folder
        where = folder_name(self._target.text)
        file = f"substitutes/{where}/queries-{self._files:03d}.npz"
        labels = _known(folder.read_npz(file), images) if folder.has(file) else None
        if labels is None:
            labels = self._labels(images)
            folder.write_npz(file, {"images": images, "labels": labels})
        self._files += 1
        self._asked += len(images)
        self._progress.update(self._asked)
        if self._context.stop.requested:
            raise Interrupted(f"stopped after {file}")
        return labels

    def _labels(self, images: np.ndarray) -> np.ndarray:
        """Returns what the defended classifier takes the images for."""
        context = self._context
        target = self._target
        defended = defenses.defend(
            target.defence,
            context.networks.of_defences,
            context.networks.classifier_of(target.classifier).apply,
            self._params,
            images,
            key=context.stream(f"oracle {target.stream_name}"),
            # The number of the query: a random defence answers each with new starts.
            ids=np.arange(self._asked, self._asked + len(images)),
            batch_size=context.data.batch_size,
        )
        return np.asarray(np.argmax(defended.output, axis=-1), np.int32)


def _known(stored: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray | None:
    """Returns stored answers, or None where they are of other images."""
    return stored["labels"] if np.array_equal(stored["images"], images) else None


def outputs(context: Context, of: Sequence[Column]) -> list[str]:
    """Returns the files that show the substitutes of some targets to be whole."""
    return [trained.output(context, name_of(target)) for target in of]
