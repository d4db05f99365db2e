"""Certificates: radii within which no step changes a prediction."""

from robust_manifold.certification.codebook import Codebook, class_distances
from robust_manifold.certification.radius import Certificates, certify

__all__ = ["Certificates", "Codebook", "certify", "class_distances"]
