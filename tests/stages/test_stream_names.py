"""What random streams are named by: with another name, all their numbers change."""

import pytest

from robust_manifold import attacks, defenses
from robust_manifold.config.column import columns
from robust_manifold.evaluation.attacked import OnManifold
from robust_manifold.stages.table.rows import Row

COLUMNS = {
    "none": "none",
    "invert_and_classify": "invert_and_classify",
    "invert_and_classify(solver='adam(steps=100)', restarts=4)": (
        "invert_and_classify(solver=adam(steps=100), restarts=4)"
    ),
    "invert_and_classify(restarts='restarts(halve_at=(10,))') on robust": (
        "invert_and_classify(restarts=restarts(halve_at=(10,))) on robust"
    ),
    "defense_gan": "defense_gan",
    "encode_and_generate": "encode_and_generate",
    "bit_depth(bits=2)": "bit_depth(bits=2)",
}
ROWS = {
    ("none", "oblivious", "fgsm(0.1)"): "none/oblivious/fgsm-epsilon=0.1",
    (
        "invert_and_classify(restarts=4)",
        "unrolled(samples=4)",
        "pgd(0.3, 'l2', steps=50)",
    ): (
        "invert_and_classify-restarts=4/unrolled-samples=4/"
        "pgd-epsilon=0.3-norm=l2-steps=50"
    ),
    ("bit_depth", "bpda(stand_in='bit_depth(bits=2)')", "auto_attack(0.1)"): (
        "bit_depth/bpda-stand_in=bit_depth-bits=2/auto_attack-epsilon=0.1"
    ),
    ("defense_gan on robust", "implicit(keys='fresh')", "carlini_wagner"): (
        "defense_gan-on-robust/implicit-keys=fresh/carlini_wagner"
    ),
    ("none", "straight_through", "patch('square(size=0.3)')"): (
        "none/straight_through/patch-mask=square-size=0.3"
    ),
    ("none", "decision", "square(0.1)"): "none/decision/square-epsilon=0.1",
    ("encode_and_generate", "substitute", "apgd(0.3)"): (
        "encode_and_generate/substitute/apgd-epsilon=0.3"
    ),
    ("invert_and_classify", "latent", OnManifold(0.3)): (
        "invert_and_classify/latent/on_manifold-epsilon=0.3"
    ),
    ("invert_and_classify", "latent", OnManifold(1.5, "l2")): (
        "invert_and_classify/latent/on_manifold-epsilon=1.5-norm=l2"
    ),
}


@pytest.mark.parametrize(("text", "name"), COLUMNS.items())
def test_a_column_has_the_name_that_it_always_had(text, name):
    (column,) = columns((text,))
    assert column.stream_name == name


@pytest.mark.parametrize(("parts", "name"), ROWS.items())
def test_a_row_has_the_name_that_it_always_had(parts, name):
    target, adversary, attack = parts
    if isinstance(attack, str):
        attack = attacks.registry.build(attack)
    row = Row(attack, adversary, *columns((target,)))
    assert row.stream_name == name


def test_searches_for_pairs_have_the_names_that_they_always_had():
    registry = attacks.overpowered_registry
    spec = registry.build("overpowered(eta=0.5, restarts=3)")
    assert registry.stream_name(spec) == "overpowered(eta=0.5, restarts=3)"


def test_today_no_spec_has_been_renamed():
    """Its stream's name is its text: the one that runs have been made with."""
    for registry, text in {
        attacks.registry: "apgd(epsilon=0.1, loss='ce')",
        defenses.registry: "bit_depth(bits=2)",
        defenses.adversaries: "bpda(samples=2)",
    }.items():
        spec = registry.build(text)
        assert registry.stream_name(spec) == registry.to_string(spec) == text
