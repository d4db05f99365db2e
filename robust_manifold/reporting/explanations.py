"""What a report shows, in a paragraph that fits the run, for who has not met it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

GENERATOR = (
    "A generator G makes images from latents z. What it is good for here is inversion: "
    "how near to a new image x the nearest G(z*) comes, and whether a classifier still "
    "sees in G(z*) what it saw in x. The table measures both on images that no "
    "training saw, and compares the generator's samples with such images."
)
"""Of a generator alone."""

INVERSION = (
    "Inversion looks for the latent z* whose image G(z*) is nearest to an image x. The "
    "tables and figures show how near solvers come and at what cost, whether all "
    "starts lead to one place, and whether an image that the generator made is found "
    "again."
)
"""Of inversion alone."""

CONVERGENCE = (
    "A generator G, which moves uniform latents z to points x = G(z), is trained "
    "against a discriminator D, which tells its points from the data's. In theory it "
    "ends where the generator's density equals that of the data and D = 1/2 wherever "
    "there are data: D can but guess. The figures show how near to that a training "
    "comes."
)
"""Of a training in one dimension."""


class Evaluated(NamedTuple):
    """What the columns of a report's tables are, by the labels of their defences.

    Attributes:
      projecting: defences that classify a projection, each once.
      other: other defences.
      bare: whether a column has no defence.
      attacked: whether there is an attack.
    """

    projecting: Sequence[str] = ()
    other: Sequence[str] = ()
    bare: bool = True
    attacked: bool = True


NO_DEFENCE = Evaluated()
"""Classifiers that are attacked, and nothing in front of them."""


def explanation_of(stages: Collection[str], evaluated: Evaluated = NO_DEFENCE) -> str:
    """Returns what a report of these stages of an experiment shows.

    >>> explanation_of(["convergence", "report"]) == CONVERGENCE
    True

    Args:
      stages: of the experiment.
      evaluated: the columns of its tables, where it has some.
    """
    # A report of defences needs no word on their generator.
    if "evaluate" in stages:
        return " ".join(_sentences(evaluated))
    for stage, text in {
        "measure": GENERATOR,
        "diagnose": INVERSION,
        "convergence": CONVERGENCE,
    }.items():
        if stage in stages:
            return text
    return ""


def heading_of(stages: Collection[str], evaluated: Evaluated = NO_DEFENCE) -> str:
    """Returns the heading of a report whose config has none.

    >>> heading_of(["evaluate"], Evaluated(["Invert and Classify", "Defense-GAN"]))
    'Invert and Classify and Defense-GAN'
    >>> heading_of(["evaluate"]), heading_of(["fit_generator", "report"])
    ('Classifiers under attack', 'Trained networks')

    Args:
      stages: of the experiment.
      evaluated: the columns of its tables, where it has some.
    """
    if "evaluate" in stages:
        classifiers = (
            "Classifiers under attack" if evaluated.attacked else "Classifiers"
        )
        return _and([*evaluated.projecting, *evaluated.other]) or classifiers
    for stage, text in {
        "measure": "A generator of images",
        "diagnose": "Inversion",
        "convergence": "A training in one dimension",
    }.items():
        if stage in stages:
            return text
    return "Trained networks"


def _sentences(evaluated: Evaluated) -> list[str]:
    """Returns what a report of columns shows."""
    sentences = []
    if names := evaluated.projecting:
        one = len(names) == 1
        sentences.append(
            f"{_and(names)} {'replaces' if one else 'replace'} an image x by its "
            "projection G(z*), the nearest image that the generator G was found to "
            f"make, and {'classifies' if one else 'classify'} the projection."
        )
    defended = bool(evaluated.projecting or evaluated.other)
    images = "on clean and on adversarial images"
    if not evaluated.attacked:
        images = "on clean images"
    columns = "with and without a defence"
    if not (defended and evaluated.bare):
        columns = "behind a defence" if defended else "of classifiers without a defence"
    sentences.append(f"The tables give the accuracy {images}, {columns}.")
    if evaluated.attacked and defended:
        sentences.append(
            "Their captions say what the attacks were allowed to see: accuracy under "
            "an attack that does not know the defence is no evidence of robustness "
            "against one that does."
        )
    elif evaluated.attacked:
        sentences.append(
            "Accuracy under the attacks that were made is no proof of robustness: a "
            "stronger one may leave less."
        )
    return sentences


def _and(names: Sequence[str]) -> str:
    """Returns names as a sentence lists them."""
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last
