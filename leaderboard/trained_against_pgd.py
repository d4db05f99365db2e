"""No defence at inference time, for comparison: a network trained against PGD.

It was trained on digits that PGD attacks in the ball linf 0.2 (Madry et al. 2018).
"""

from robust_manifold import adapters


def entry():
    classifier = adapters.from_published("mnist_small_cnn_pgd")
    return {"classifier": classifier, "title": "trained against PGD"}
