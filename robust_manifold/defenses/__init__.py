"""Defences: what stands between an image and its logits; and who gets past them."""

from robust_manifold.core.networks import Networks
from robust_manifold.defenses.adversaries import (
    BPDA,
    Adversary,
    Decision,
    GradientAdversary,
    Implicit,
    Latent,
    Oblivious,
    StraightThrough,
    Substitute,
    Unrolled,
    adversaries,
    defended_apply,
)
from robust_manifold.defenses.analysis_by_synthesis import (
    AnalysisBySynthesis,
    Synthesis,
)
from robust_manifold.defenses.apply import DefenseParams, defend
from robust_manifold.defenses.base import Defended, Defense, NoDefense, registry
from robust_manifold.defenses.bit_depth import BitDepth
from robust_manifold.defenses.diffusion import Diffusion
from robust_manifold.defenses.encode_and_generate import EncodeAndGenerate
from robust_manifold.defenses.invert_and_classify import (
    DefenseGAN,
    InvertAndClassify,
    ProjectionDefense,
    search_passes,
)
from robust_manifold.defenses.passes import (
    ViewPasses,
    classifying_passes,
    latent_search_passes,
    view_passes,
)
from robust_manifold.defenses.purifier import Purified, Purifier
from robust_manifold.defenses.rejecting import Rejecting, given_number
from robust_manifold.defenses.views import DefendedApply, RandomApply
from robust_manifold.defenses.voting import Votes, Voting

__all__ = [
    "BPDA",
    "Adversary",
    "AnalysisBySynthesis",
    "BitDepth",
    "Decision",
    "Defended",
    "DefendedApply",
    "Defense",
    "DefenseGAN",
    "DefenseParams",
    "Diffusion",
    "EncodeAndGenerate",
    "GradientAdversary",
    "Implicit",
    "InvertAndClassify",
    "Latent",
    "Networks",
    "NoDefense",
    "Oblivious",
    "ProjectionDefense",
    "Purified",
    "Purifier",
    "RandomApply",
    "Rejecting",
    "StraightThrough",
    "Substitute",
    "Synthesis",
    "Unrolled",
    "ViewPasses",
    "Votes",
    "Voting",
    "adversaries",
    "classifying_passes",
    "defend",
    "defended_apply",
    "given_number",
    "latent_search_passes",
    "registry",
    "search_passes",
    "view_passes",
]
