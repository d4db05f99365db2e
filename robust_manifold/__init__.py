"""Manifold defences against adversarial examples, and the attacks that test them."""

from robust_manifold.compilation_cache import enable_compilation_cache

__all__ = ["enable_compilation_cache"]
