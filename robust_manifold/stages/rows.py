"""The rows of the table: the clean images, and each attack by each adversary."""

import re
from typing import NamedTuple

from robust_manifold import attacks, defenses
from robust_manifold.config import Evaluation


class Row(NamedTuple):
    """One row of the table; `attack` is None for the clean images."""

    attack: attacks.Attack | None
    adversary: str

    @property
    def name(self) -> str:
        """The attack as a config writes it, or "clean"."""
        if self.attack is None:
            return "clean"
        return attacks.registry.to_string(self.attack)

    @property
    def folder(self) -> str:
        """The row's folder: adversary/attack."""
        return f"{self.adversary}/{folder_name(self.name)}"


def rows(evaluation: Evaluation) -> list[Row]:
    """Returns the rows of the table in their order, clean first."""
    return [
        Row(None, "none"),
        *(
            Row(attack, adversary)
            for adversary in evaluation.adversaries
            for attack in evaluation.attacks
        ),
    ]


def folder_name(text: str) -> str:
    """Returns a spec's text as the name of a folder.

    >>> folder_name("pgd(epsilon=0.1, norm='l2')")
    'pgd-epsilon=0.1-norm=l2'
    """
    unquoted = re.sub("['\"]", "", text)
    return re.sub(r"[^A-Za-z0-9.=_]+", "-", unquoted).strip("-")


def adversarial_folder(row: Row) -> str:
    """Returns where the row's adversarial images lie."""
    return f"adversarial/{row.folder}"


def outcome_folder(defence: defenses.Defense, row: Row) -> str:
    """Returns where the defended outcomes of the row lie."""
    return f"outcomes/{folder_name(defenses.registry.to_string(defence))}/{row.folder}"
