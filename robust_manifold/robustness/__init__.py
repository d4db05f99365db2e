"""What a classifier is worth under attack, in one call: `robust_manifold.evaluate`."""

from robust_manifold.robustness.comparison import Comparison, Pair
from robust_manifold.robustness.evaluation import Evaluation
from robust_manifold.robustness.one_call import evaluate
from robust_manifold.robustness.record import Line

__all__ = ["Comparison", "Evaluation", "Line", "Pair", "evaluate"]
