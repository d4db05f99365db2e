"""What slides and papers say, as data: each figure with its source.

Accuracies are in percent, budgets on pixels in [0, 1], norms plain over all pixels.
Only figures read in a public source are here.
"""

from collections.abc import Mapping
from typing import NamedTuple

SOURCES: Mapping[str, str] = {
    "Slides": (
        "slides of The Robust Manifold Defense, version 1 of arXiv 1712.09196: table "
        "of MNIST; attacks on the bare classifier"
    ),
    "Ilyas et al.": (
        "The Robust Manifold Defense, arXiv 1712.09196: attack on Defense-GAN, by the "
        "released images of 200 test digits; an image counts if all of five variants "
        "fail; the bound, a mean square of 0.02, is ‖δ‖₂ ≤ 3.96"
    ),
    "Athalye et al.": (
        "Obfuscated Gradients Give a False Sense of Security, ICML 2018: Defense-GAN "
        "under BPDA; the distance stated, 0.0051, is ‖δ‖₂ divided by 784, about 4.0"
    ),
    "SOAP": (
        "Online Adversarial Purification based on Self-Supervision, ICLR 2021, Table 1 "
        "(CNN): Defense-GAN; set beside our oblivious adversary, Carlini-Wagner and "
        "DeepFool beside ours in ℓ2"
    ),
    "FBGAN": (
        "Featurized Bidirectional GAN (FBGAN), Table 1; set beside our oblivious "
        "adversary"
    ),
    "ABS": (
        "Towards the First Adversarially Robust Neural Network Model on MNIST, ICLR "
        "2019: curves of accuracy against ‖δ‖₂, worst of many attacks"
    ),
    "MNIST challenge": (
        "Madry et al.'s public MNIST challenge, and for Square and AutoAttack the "
        "papers of these attacks: one adversarially trained network, ℓ∞ 0.3"
    ),
    "AutoAttack": "AutoAttack's table of MNIST classifiers, ℓ∞ 0.3",
}
"""Where the figures come from, by the name that tables use."""

PLAIN, ROBUST, TRADES = "cross_entropy", "adversarial linf", "trades linf"
"""Trainings of a classifier: what results tell of one, without its settings."""


class Published(NamedTuple):
    """One published accuracy, and the rows of ours that it can be set beside.

    Attributes:
      source: a key of `SOURCES`.
      of: what was attacked, in the words of a table.
      attack: name of the attack; "clean"; "any_attack" for the worst of several.
      accuracy: in percent.
      norm: of the attack; empty for clean images.
      epsilon: of the attack; None where it has none.
      defence: name of our defence to set it beside; None if nothing of ours is like it.
      training: of our classifier; empty for any.
      adversaries: names of our adversaries, which clean images do not have.
      note: what else the source says of the attack.
    """

    source: str
    of: str
    attack: str
    accuracy: float | int
    norm: str = ""
    epsilon: float | None = None
    defence: str | None = None
    training: str = ""
    adversaries: tuple[str, ...] = ("oblivious",)
    note: str = ""


def _slides() -> list[Published]:
    rows = (
        ("clean", "", None, 97, 84),
        ("fgsm", "linf", 0.05, 1, 82),
        ("fgsm", "linf", 0.1, 0, 80),
        ("fgsm", "linf", 0.2, 0, 73),
        ("carlini_wagner", "l2", None, 0, 77),
        ("carlini_wagner", "l0", None, 0, 65),
        ("carlini_wagner", "linf", None, 0, 66),
    )
    columns = (("no defence", "none"), ("Invert and Classify", "invert_and_classify"))
    return [
        Published("Slides", of, attack, row[place], norm, epsilon, defence, PLAIN)
        for place, (of, defence) in enumerate(columns)
        for attack, norm, epsilon, *row in rows
    ]


def _defense_gan() -> list[Published]:
    name, defence = "Defense-GAN", "defense_gan"
    rows = (
        ("SOAP", "clean", 96.26, "", None),
        ("SOAP", "fgsm", 80.13, "linf", 0.3),
        ("SOAP", "pgd", 75.40, "linf", 0.3),
        ("SOAP", "carlini_wagner", 95.11, "l2", None),
        ("SOAP", "deepfool", 94.46, "l2", None),
        ("FBGAN", "clean", 93.6, "", None),
        ("FBGAN", "fgsm", 95.2, "linf", 0.1),
        ("FBGAN", "fgsm", 82.0, "linf", 0.3),
        ("FBGAN", "pgd", 94.7, "linf", 0.1),
        ("FBGAN", "pgd", 93.2, "linf", 0.3),
    )
    found = [
        Published(source, name, attack, accuracy, norm, epsilon, defence, PLAIN)
        for source, attack, accuracy, norm, epsilon in rows
    ]
    bare = [
        Published("FBGAN", "no defence", "fgsm", value, "linf", epsilon, "none", PLAIN)
        for epsilon, value in ((0.1, 78.2), (0.3, 18.9))
    ]
    aware = [
        Published(source, name, "any_attack", value, "l2", 4.0, defence, PLAIN, by)
        for source, value, by in (
            ("Athalye et al.", 55, ("straight_through", "worst case")),
            ("Ilyas et al.", 3, ("latent", "worst case")),
        )
    ]
    return [*found, *bare, *aware]


def _abs_curves() -> list[Published]:
    budgets = (1.0, 1.5, 2.0, 2.5, 3.0)
    curves = (
        ("CNN, no defence", "none", PLAIN, (61, 8, 1, 0, 0)),
        ("Madry et al., ℓ∞ 0.3", "none", ROBUST, (77, 35, 2, 0, 0)),
        ("nearest neighbour", None, "", (76, 53, 30, 13, 5)),
        ("ABS", None, "", (86, 80, 68, 31, 14)),
    )
    return [
        Published(
            *("ABS", of, "any_attack", value, "l2", epsilon, defence, training),
            adversaries=("worst case",),
        )
        for of, defence, training, values in curves
        for epsilon, value in zip(budgets, values, strict=True)
    ]


def _adversarial_training() -> list[Published]:
    name = "Madry et al., ℓ∞ 0.3"
    challenge = (
        ("fgsm", 96.36, "linf", 0.3, ""),
        ("pgd", 92.52, "linf", 0.3, "100 steps"),
        ("pgd", 89.62, "linf", 0.3, "50 restarts"),
        ("square", 88.25, "linf", 0.3, ""),
        ("auto_attack", 88.50, "linf", 0.3, ""),
    )
    found = [
        Published(
            *("MNIST challenge", name, attack, accuracy, norm, epsilon, "none", ROBUST),
            note=note,
        )
        for attack, accuracy, norm, epsilon, note in challenge
    ]
    table = (
        ("Gowal et al. 2020", None, "", 99.26, 96.34),
        ("CROWN-IBP", None, "", 98.38, 93.96),
        ("TRADES", "none", TRADES, 99.48, 92.81),
        ("Madry et al.", "none", ROBUST, 98.53, 88.50),
    )
    for of, defence, training, clean, attacked in table:
        beside = {"defence": defence, "training": training}
        found += [
            Published("AutoAttack", of, "clean", clean, **beside),
            Published("AutoAttack", of, "auto_attack", attacked, "linf", 0.3, **beside),
        ]
    manifold = ("AutoAttack", "kernelised-manifold defence (it claims 64.25 %)")
    return [*found, Published(*manifold, "auto_attack", 0.0, "linf", 0.3)]


PUBLISHED: tuple[Published, ...] = (
    *_slides(),
    *_defense_gan(),
    *_abs_curves(),
    *_adversarial_training(),
)
"""All figures, each source's in its own order."""
