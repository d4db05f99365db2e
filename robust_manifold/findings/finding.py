"""What a finding is: one measured thing, from its computation to its words.

A finding says whether an experiment asks for it, computes and stores what is measured,
and shows it: in the report of a run, and on the page of all results.  The registry
(`findings.EVERY`) has the order; one that follows a stage needs no other file.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from robust_manifold.config import Experiment
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Notice, ReportFigure, Section, Table
from robust_manifold.stages import Context


class Shown(NamedTuple):
    """What a report shows of a finding.

    Attributes:
      tables: in full, before the figures.
      timed: tables of times, on the page alone: the files `table.*` are the same to
        the last byte for a run that is made again.
      folded: tables behind a fold, for the reader who wants the detail.
      aside: folded tables on the page alone.
      sections: parts of the page with a heading of their own, after the results.
      figures: by the names of their files, without the ending.
      notice: what a reader should know before any figure.
    """

    tables: Sequence[Table] = ()
    timed: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    aside: Sequence[Table] = ()
    sections: Sequence[Section] = ()
    figures: Sequence[tuple[str, ReportFigure]] = ()
    notice: Notice | None = None


class Passage(NamedTuple):
    """What the page of results shows of a finding.

    Attributes:
      heading: of it.
      tables: in full.
      folded: tables behind folds, by the words of the fold.
    """

    heading: str
    tables: Sequence[Table]
    folded: Mapping[str, Sequence[Table]] = {}


class Words(NamedTuple):
    """How a report opens whose first finding this is.

    Attributes:
      heading: of a report whose config has no title.
      explanation: a paragraph for who has not met the method.
    """

    heading: str
    explanation: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One measured thing.

    Attributes:
      name: of the finding, and of its stage.
      show: what a report shows of it, from stored files alone.
      of: the runs that it is of: those of classes, of numbers (a regression), or both.
      after: the stage that it follows wherever the config has that; empty for a
        finding that `config.stages` names itself.
      wanted: whether an experiment whose config has that stage asks for it; None if
        every such experiment does.
      find: computes and stores it and returns the names of its files; resumable.
        None if there is nothing to compute beyond what its stage has stored.
      writes: what the names of its files begin with.
      recorded: the small files that the page of results is made from.  The first of
        a finding without `wanted` is there whenever its stage has finished.
      results: what the page of results shows of a group of runs.
      words: how a report opens that shows no finding before this one.
    """

    name: str
    show: Callable[[Context], Shown]
    of: Literal["classes", "numbers", "both"] = "classes"
    after: str = ""
    wanted: Callable[[Experiment], bool] | None = None
    find: Callable[[Context], Sequence[str]] | None = None
    writes: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    results: Callable[[Group], Iterable[Passage]] = lambda group: ()
    words: Callable[[Context], Words] | None = None
