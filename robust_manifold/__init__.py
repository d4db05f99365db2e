"""Manifold defences against adversarial examples, and the attacks that test them."""
