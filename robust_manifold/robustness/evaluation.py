"""What `evaluate` returns: it prints, draws, compares and stores itself."""

import dataclasses
import os
from typing import TYPE_CHECKING

from robust_manifold.robustness import text
from robust_manifold.robustness.comparison import Comparison, compared
from robust_manifold.robustness.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Record):
    """What a classifier, behind a defence, is worth under attack.

    It prints as a short table, flags first; its attributes are those of `Record`.
    """

    def compare(self, *others: Record) -> Comparison:
        """Returns several evaluations side by side, paired image by image.

        Args:
          *others: of the same images.

        Raises:
          UsageError: for other images, and where no budget is common to all.
        """
        return compared((self, *others))

    def to_frame(self) -> "pd.DataFrame":
        """Returns the figures as a frame: a row for the clean images, and each ball."""
        import pandas as pd

        return pd.DataFrame([line._asdict() for line in self.lines])

    def to_latex(self) -> str:
        """Returns the figures as a table for the package booktabs."""
        from robust_manifold.reporting.tables import to_latex
        from robust_manifold.robustness.page import figures_table

        return to_latex(figures_table(self))

    def plot(self) -> "Figure":
        """Returns accuracy against the radius, which draws itself in a notebook."""
        from robust_manifold.robustness.page import plotted

        return plotted((self,))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a page, the images to the last bit, and the figures into a folder.

        Args:
          folder: new, empty, or one that has held an evaluation: `report.html`,
            `evaluation.npz`, `evaluation.json`, `lines.csv`, `plot.png`.

        Raises:
          UsageError: if it cannot be written.
        """
        from robust_manifold.robustness.saved import save

        save(self, folder)

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> "Evaluation":
        """Returns the evaluation that `save` wrote into a folder.

        Raises:
          UsageError: if there is none, or it is damaged.
        """
        from robust_manifold.robustness.saved import load

        return Evaluation(**load(folder))

    def __str__(self) -> str:
        return text.told(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return text.html(self)
