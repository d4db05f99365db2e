"""The rows of the table: the clean images, and each attack by each adversary."""

import hashlib
import re
from typing import NamedTuple

from robust_manifold import attacks, defenses
from robust_manifold.config import Evaluation

_LONGEST = 200
"""Characters of a name of ours; file systems allow 255, with the ending."""


class Row(NamedTuple):
    """One set of images: the clean ones, or those of an attack by an adversary."""

    attack: attacks.Attack | None
    """None for the clean images."""
    adversary: str
    """What the attack may differentiate; "none" for the clean images."""
    target: defenses.Defense
    """The defence that the attack was made against; `NoDefense` for the oblivious
    adversary, whose images meet every defence."""

    @property
    def name(self) -> str:
        """The attack as a config writes it, or "clean"."""
        if self.attack is None:
            return "clean"
        return attacks.registry.to_string(self.attack)

    @property
    def folder(self) -> str:
        """The row's folder: clean, or target/adversary/attack."""
        if self.attack is None:
            return "clean"
        target = folder_name(defenses.registry.to_string(self.target))
        return f"{target}/{self.adversary}/{folder_name(self.name)}"


def rows(evaluation: Evaluation) -> list[Row]:
    """Returns the sets of images in the table's order, clean first."""
    clean = Row(None, "none", defenses.NoDefense())
    return [
        clean,
        *(
            Row(attack, adversary, target)
            for adversary in evaluation.adversaries
            for target in _targets(adversary, evaluation)
            for attack in evaluation.attacks
        ),
    ]


def rows_of(defence: defenses.Defense, evaluation: Evaluation) -> list[Row]:
    """Returns the rows that a defence meets: all that were not made for another."""
    return [
        row
        for row in rows(evaluation)
        if row.adversary in _FOR_ALL or row.target == defence
    ]


_FOR_ALL = ("none", "oblivious")
"""The adversaries whose images are made once, and meet every defence."""


def _targets(adversary: str, evaluation: Evaluation) -> tuple[defenses.Defense, ...]:
    """Returns the defences that an adversary makes images for, one set each."""
    if adversary in _FOR_ALL:
        return (defenses.NoDefense(),)
    return evaluation.defences


def folder_name(text: str) -> str:
    """Returns a spec's text as the name of a folder.

    >>> folder_name("pgd(epsilon=0.1, norm='l2')")
    'pgd-epsilon=0.1-norm=l2'
    """
    unquoted = re.sub("['\"]", "", text)
    return shortened(re.sub(r"[^A-Za-z0-9.=_+]+", "-", unquoted).strip("-"))


def shortened(name: str) -> str:
    """Returns a name that a file may have; of a long one the end is a checksum."""
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"


def adversarial_folder(row: Row) -> str:
    """Returns where the row's adversarial images lie."""
    return f"adversarial/{row.folder}"


def outcome_folder(defence: defenses.Defense, row: Row) -> str:
    """Returns where the defended outcomes of the row lie."""
    return f"outcomes/{folder_name(defenses.registry.to_string(defence))}/{row.folder}"
