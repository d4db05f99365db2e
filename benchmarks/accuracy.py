"""Invert and Classify at the recipe's error: its accuracy, ours, and the difference."""

import math

import contenders
import jax
import numpy as np
import quality
from contenders import RECIPE_SETTING

from robust_manifold import attacks, evaluation

EPSILON = 0.2
CONFIDENCE = 0.95
Z = 1.96


def compare(run, count, tried):
    """Prints the table for clean and for attacked digits.

    Args:
      run: with a classifier, which the attack differentiates and the defence uses.
      count: how many test images.
      tried: of them, how many fix the number of steps, as in part `quality`.
    """
    images, labels = run.images(count), np.asarray(run.test.labels[:count])
    classifier = run.classifier
    crafted = attacks.craft(
        attacks.FGSM(epsilon=EPSILON),
        classifier.model.apply,
        classifier.params,
        images,
        labels,
        key=contenders.root_key(),
    )
    attacked = np.asarray(crafted.images)
    found = {}
    for name, rows in {"clean": images, f"fgsm {EPSILON}, oblivious": attacked}.items():
        # Attacked images meet the numbers of steps found for clean ones too.
        found |= _settings(run, rows[:tried], name)
        bare = _correct(classifier, rows, labels)
        print(f"{name}: {len(rows)} images; {classifier.text} alone {_share(bare)}")
        print(
            f"  {'projected by':44}{'restarts x steps':>18}{'error':>10}"
            f"{'accuracy':>26}{'- recipe':>36}"
        )
        _print_rows(run, rows, labels, found)


def _settings(run, images, name):
    """Returns the recipe, ours stopped at its error on `images`, and ours in full."""
    target = float(contenders.invert(run, images, RECIPE_SETTING).error.mean())
    settings = {"recipe": RECIPE_SETTING}
    for encoder in quality.encoders(run):
        full = contenders.default(encoder)
        how = "encoder" if encoder else "no encoder"
        stopped, _ = quality.stop_at(run, images, full, target)
        label = f"{how}, stopped for {name.split()[0]}"
        if stopped is None:
            print(f"the recipe's error is never reached: {label}")
        else:
            settings[label] = stopped
        settings[f"{how}, in full"] = full
    return settings


def _print_rows(run, images, labels, settings):
    recipe = None
    for name, setting in settings.items():
        found = contenders.invert(run, images, setting)
        correct = _correct(run.classifier, np.asarray(found.image), labels)
        recipe = correct if recipe is None else recipe
        error = float(found.error.mean())
        difference = "" if name == "recipe" else _difference(correct, recipe)
        print(
            f"  {name:44}{setting.passes:>18}{error:10.6f}{_share(correct):>26}"
            f"{difference:>36}",
            flush=True,
        )


def _correct(classifier, images, labels):
    logits = jax.jit(classifier.model.apply)(classifier.params, images)
    return np.asarray(logits).argmax(axis=-1) == labels


def _share(correct) -> str:
    n = len(correct)
    low, high = evaluation.wilson_interval(int(correct.sum()), n, CONFIDENCE)
    return f"{correct.mean():.4f} [{low:.4f}, {high:.4f}]"


def _difference(correct, recipe) -> str:
    """The difference of two accuracies on the same images, with its interval.

    Half an image is added to each cell of the two by two table, so that no difference
    at all keeps a width (Agresti and Min, Statistics in Medicine 24, 2005).
    """
    n = len(correct)
    gained, lost = (
        int(np.sum(a & ~b)) for a, b in ((correct, recipe), (recipe, correct))
    )
    middle = (gained - lost) / (n + 2)
    spread = gained + lost + 1 - (n + 2) * middle**2
    width = Z * math.sqrt(spread) / (n + 2)
    interval = f"[{middle - width:+.4f}, {middle + width:+.4f}]"
    return f"{(gained - lost) / n:+.4f} {interval} (+{gained} -{lost})"
