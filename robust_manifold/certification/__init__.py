"""Certificates: radii within which no step changes a prediction."""

from robust_manifold.certification.codebook import (
    Codebook,
    class_distances,
    codebook_of,
)
from robust_manifold.certification.radius import Certificates, beyond, certify
from robust_manifold.certification.smoothing import (
    ABSTAINED,
    Counts,
    Smoothed,
    Smoothing,
    WithoutKey,
    count,
    lower_share,
    smoothed,
)
from robust_manifold.certification.smoothing import registry as smoothings

__all__ = [
    "ABSTAINED",
    "Certificates",
    "Codebook",
    "Counts",
    "Smoothed",
    "Smoothing",
    "WithoutKey",
    "beyond",
    "certify",
    "class_distances",
    "codebook_of",
    "count",
    "lower_share",
    "smoothed",
    "smoothings",
]
