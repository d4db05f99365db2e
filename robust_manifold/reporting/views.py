"""The table of physical attacks: how many views of an image they hold in."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from robust_manifold.reporting.columns import target_label
from robust_manifold.reporting.labels import label_of
from robust_manifold.reporting.tables import Table


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
