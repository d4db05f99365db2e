"""Defences: what stands between an image and its logits."""

from robust_manifold.defenses.apply import DefenseParams, defend
from robust_manifold.defenses.base import Defended, Defense, NoDefense, registry
from robust_manifold.defenses.invert_and_classify import (
    DefenseGAN,
    InvertAndClassify,
    ProjectionDefense,
)

__all__ = [
    "Defended",
    "Defense",
    "DefenseGAN",
    "DefenseParams",
    "InvertAndClassify",
    "NoDefense",
    "ProjectionDefense",
    "defend",
    "registry",
]
