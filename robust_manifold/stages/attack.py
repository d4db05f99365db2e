"""Stage `attack`: crafts the adversarial images of every row of the table."""

import warnings
from collections.abc import Callable

import numpy as np

from robust_manifold import attacks, data, models
from robust_manifold.core.types import Params
from robust_manifold.runtime import Progress, console
from robust_manifold.stages import substitutes, trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.rounds import compute_rounds, round_paths
from robust_manifold.stages.rows import Row, adversarial_folder, rows


def run(context: Context) -> list[str]:
    """Writes `adversarial/<target>/<adversary>/<attack>/round-NNN.npz`.

    Where an adversary trains substitutes, these come first.
    """
    todo = [row for row in rows(context.experiment.evaluation) if row.attack]
    if not todo:
        return []
    params = trained.load(context, "classifier")
    targets = substitutes.targets(context)
    taught = {target: substitutes.fit(context, target) for target in targets}
    with Progress(len(todo) * context.test.size, "attack", "images") as progress:
        done = 0
        for row in todo:

            def advance(images: int, row: Row = row) -> None:
                nonlocal done
                done += images
                progress.update(done, row=row.name)

            def tell(images: int, _: int, row: Row = row) -> None:
                progress.update(done + images, row=row.name)

            compute_rounds(
                context,
                adversarial_folder(row),
                lambda _, part, row=row, tell=tell: _craft(
                    context, *_seen(context, row, params, taught), row, part, tell
                ),
                advance,
            )
    rounds = round_paths(context, [adversarial_folder(row) for row in todo])
    return [*substitutes.outputs(context, targets), *rounds]


def _seen(context: Context, row: Row, params, taught) -> tuple[models.Model, Params]:
    """Returns the network that a row's attack differentiates, and its parameters."""
    if row.adversary == substitutes.ADVERSARY:
        return context.substitute, taught[row.target]
    return context.classifier, params


def _craft(
    context: Context,
    model: models.Model,
    params: Params,
    row: Row,
    part: data.Split,
    tell: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """Returns what is stored of one round of adversarial images."""
    assert row.attack is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", attacks.AttackWarning)
        crafted = attacks.craft(
            row.attack,
            model.apply,
            params,
            data.to_float(part.images),
            part.labels,
            key=context.stream(f"attack {row.folder}"),
            ids=part.ids,
            batch_size=context.batch_size,
            on_chunk=tell,
        )
    for warning in told:
        console.warning(f"{row.name}: {warning.message}")
    return {
        "images": np.asarray(crafted.images),
        "logits": np.asarray(crafted.logits),
        "success": np.asarray(crafted.success),
        "distance": np.asarray(crafted.distance),
        "forwards": np.asarray(crafted.queries.forwards),
        "backwards": np.asarray(crafted.queries.backwards),
    }
