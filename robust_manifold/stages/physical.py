"""Views of stickered images: stored by stage `evaluate`, shown by stage `report`."""

from collections.abc import Callable, Iterator

import numpy as np

from robust_manifold import attacks, data
from robust_manifold.reporting import Table, ViewsLine, views_table
from robust_manifold.stages import trained
from robust_manifold.stages.context import Context
from robust_manifold.stages.pace import Pace, Part
from robust_manifold.stages.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.rows import Row, adversarial_folder, rows

VIEWS = 100
"""Fresh ones of each image."""


def measure(context: Context) -> list[str]:
    """Writes `views/<row>/round-NNN.npz` of every physical attack; returns the files.

    The views are classified without a defence.
    """
    todo = _physical(context)
    if not todo:
        return []
    parts = {
        row: Part(context.test.size, stored=stored_images(context, [_folder(row)]))
        for row in todo
    }
    with Pace("views", "images", parts) as pace:
        for row in todo:
            stickered = read_rounds(context, adversarial_folder(row))["images"]
            compute_rounds(
                context,
                _folder(row),
                _counter(context, row, stickered),
                pace.teller(row, show=("row", row.name)),
            )
    return round_paths(context, [_folder(row) for row in todo])


def tables(context: Context) -> Iterator[Table]:
    """Yields the table of the shares of views, if the run has a physical attack."""
    lines = []
    for row in _physical(context):
        found = read_rounds(context, _folder(row))
        views = int(found["views"][0])
        lines.append(
            ViewsLine(
                attack=row.name,
                adversary=row.adversary,
                target=row.target.text,
                norm=row.attack.norm,  # type: ignore[union-attr]
                n=len(found["clean"]),
                views=views,
                clean=float(np.mean(found["clean"]) / views),
                attacked=float(np.mean(found["attacked"]) / views),
            )
        )
    if lines:
        yield views_table(lines)


def _counter(
    context: Context, row: Row, stickered: np.ndarray
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns what counts the views of one round."""
    assert isinstance(row.attack, attacks.Patch)
    views = row.attack.transformations
    assert isinstance(views, attacks.Transformations)
    name = row.target.classifier
    model, params = context.classifier_of(name), trained.load_classifier(context, name)

    def count(place: slice, part: data.Split) -> dict[str, np.ndarray]:
        found = attacks.physical_success(
            model.apply,
            params,
            data.to_float(part.images),
            stickered[place],
            part.labels,
            views,
            # The same views in every row: rows differ by their images alone.
            key=context.stream("views"),
            views=VIEWS,
            ids=part.ids,
            batch_size=context.batch_size,
        )
        return {
            "clean": np.asarray(found.clean),
            "attacked": np.asarray(found.attacked),
            "views": np.full(len(part.labels), found.views),
        }

    return count


def _physical(context: Context) -> list[Row]:
    """Returns the rows whose attack is made for views."""
    every = rows(context.experiment.evaluation)
    return [row for row in every if isinstance(row.attack, attacks.Patch)]


def _folder(row: Row) -> str:
    return f"views/{row.folder}"
