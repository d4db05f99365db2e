"""Views of stickered images: how many of them are misclassified."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import attacks, data
from robust_manifold.config import Experiment
from robust_manifold.findings.finding import Finding, Shown
from robust_manifold.reporting import Table
from robust_manifold.reporting.columns import target_label
from robust_manifold.reporting.labels import label_of
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.pace import Pace, Part
from robust_manifold.stages.table.rounds import (
    compute_rounds,
    read_rounds,
    round_paths,
    stored_images,
)
from robust_manifold.stages.table.rows import Row, adversarial_folder, rows

VIEWS = 100
"""Fresh ones of each image."""


def find(context: Context) -> list[str]:
    """Writes `views/<row>/round-NNN.npz` of every physical attack; returns the files.

    The views are classified without a defence.
    """
    todo = _physical(context.experiment)
    parts = {
        row: Part(context.data.test.size, stored=stored_images(context, [_folder(row)]))
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


def _show(context: Context) -> Shown:
    """Returns the table of the shares of views."""
    lines = []
    for row in _physical(context.experiment):
        assert row.attack is not None
        found = read_rounds(context, _folder(row))
        views = int(found["views"][0])
        lines.append(
            ViewsLine(
                attack=row.name,
                adversary=row.adversary,
                target=row.target.text,
                norm=row.attack.norm,
                n=len(found["clean"]),
                views=views,
                clean=float(np.mean(found["clean"]) / views),
                attacked=float(np.mean(found["attacked"]) / views),
            )
        )
    return Shown([views_table(lines)])


def _counter(
    context: Context, row: Row, stickered: np.ndarray
) -> Callable[[slice, data.Split], dict[str, np.ndarray]]:
    """Returns what counts the views of one round."""
    assert isinstance(row.attack, attacks.Patch)
    views = row.attack.transformations
    assert isinstance(views, attacks.Transformations)
    name = row.target.classifier
    model = context.networks.classifier_of(name)
    params = trained.load_classifier(context, name)

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
            batch_size=context.data.batch_size,
        )
        return {
            "clean": np.asarray(found.clean),
            "attacked": np.asarray(found.attacked),
            "views": np.full(len(part.labels), found.views),
        }

    return count


def _physical(experiment: Experiment) -> list[Row]:
    """Returns the rows whose attack is made for views."""
    every = rows(experiment.evaluation)
    return [row for row in every if isinstance(row.attack, attacks.Patch)]


def _folder(row: Row) -> str:
    return f"views/{row.folder}"


class ViewsLine(NamedTuple):
    """What views of stickered images were taken for, in one row of a report."""

    attack: str
    """As a config writes it."""
    adversary: str
    """What the attack may differentiate."""
    target: str
    """The defence that it was made against, as a config writes it."""
    norm: str
    n: int
    """Images."""
    views: int
    """Of each image."""
    clean: float
    """Share of the views that are misclassified, without the sticker."""
    attacked: float
    """Likewise with it."""


def views_table(lines: Sequence[ViewsLine]) -> Table:
    """Returns the table of the shares of views misclassified, a line an attack."""
    # One adversary need not be named in every line.
    several = len({(line.adversary, line.target) for line in lines}) > 1
    text = [
        [
            label_of(line.attack, norm=line.norm),
            *([line.adversary, target_label(line.target)] if several else []),
            f"{line.n:,} × {line.views:,}",
            f"{100 * line.clean:.1f} %",
            f"{100 * line.attacked:.1f} %",
        ]
        for line in lines
    ]
    caption = (
        "Share of random views that the bare classifier gets wrong, without the "
        "sticker and with it, a mean over all images, those that it gets wrong anyway "
        "included. The views are drawn from the attack's own transformations, afresh, "
        "and are the same in both columns."
    )
    heads = ["Images × views", "Without sticker", "With sticker"]
    heads = ["Attack", *(["Adversary", "Made against"] if several else []), *heads]
    frame = pd.DataFrame(text, columns=heads)
    numbers = pd.DataFrame(list(lines))
    return Table("Views of stickered images", caption, frame, numbers)


FINDING = Finding(
    name="views",
    after="evaluate",
    wanted=lambda experiment: bool(_physical(experiment)),
    find=find,
    writes=("views/",),
    show=_show,
)
