"""Where results come from, in words."""

from robust_manifold.runtime import provenance


def test_stages_of_the_same_parts_are_named_together():
    known = {"command": ["main.py"], "versions": {"jax": "1"}, "devices": {}}
    parts = {stage: [provenance.UNKNOWN, known] for stage in ("fit", "attack")}
    parts["evaluate"] = [known]
    assert provenance.told(parts, lambda part: part["versions"]["jax"]) == (
        "not known (part 1 of fit, attack); 1 (part 2 of fit, attack, evaluate)"
    )
