import pytest

from robust_manifold.reporting.labels import (
    column_labels,
    differing_labels,
    family_of,
    label_of,
    name_label,
    norm_label,
    parse_spec,
)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("clean", "Clean"),
        ("none", "No defence"),
        ("fgsm(epsilon=0.05)", "FGSM ε=0.05"),
        ("fgsm(0.05)", "FGSM 0.05"),
        ("pgd(epsilon=1.5, norm='l2', steps=40)", "PGD ℓ2 ε=1.5, 40 steps"),
        ("pgd(epsilon=0.3, norm='linf', restarts=1)", "PGD ℓ∞ ε=0.3, 1 restart"),
        ("pgd(epsilon=0.3, random_start=False)", "PGD ε=0.3, no random start"),
        ("pgd(epsilon=0.3, step_size=0.01)", "PGD ε=0.3, step size 0.01"),
        ("rand_fgsm(epsilon=0.3, alpha=0.05)", "RAND+FGSM ε=0.3, α=0.05"),
        ("carlini_wagner(norm='l0')", "Carlini-Wagner ℓ0"),
        ("apgd(epsilon=0.3, loss='dlr')", "APGD ε=0.3, loss dlr"),
        ("wobbly_attack(epsilon=1, strength=3)", "Wobbly Attack ε=1, strength 3"),
        (
            "invert_and_classify(solver='adam(steps=3, momentum=0.5)', restarts=4)",
            "Invert and Classify, solver Adam (3 steps, momentum 0.5), 4 restarts",
        ),
        ("x(solver=Adam())", "X, solver Adam"),
        ("worst of all", "worst of all"),
        ("a.b(3)", "a.b(3)"),
        ("broken(", "broken("),
        ("", ""),
    ],
)
def test_labels_of_specs(text, label):
    assert label_of(text) == label


def test_the_norm_is_named_unless_it_is_the_default_one():
    assert label_of("deepfool", norm="l2") == "DeepFool ℓ2"
    assert label_of("pgd(epsilon=0.3)", norm="linf") == "PGD ε=0.3"
    assert label_of("pgd(norm='l1')", norm="l1") == "PGD ℓ1"


def test_overrides_come_first():
    assert label_of("fgsm", {"fgsm": "Fast"}) == "Fast"
    assert label_of("pgd", {"fgsm": "Fast"}) == "PGD"
    assert column_labels(["none", "x"], {"x": "Ours"}) == ["No defence", "Ours"]


def test_columns_say_more_only_where_they_must():
    defences = ["none", "defense_gan", "defense_gan(restarts=2)", "odd name"]
    assert column_labels(defences) == [
        "No defence",
        "Defense-GAN",
        "Defense-GAN, 2 restarts",
        "odd name",
    ]


def test_differing_labels_keep_what_tells_specs_of_one_name_apart():
    texts = ["gan(a=1, b=2)", "gan(a=1, b=3, c='x')", "vae(a=1)", "odd name", "gan"]
    assert differing_labels(texts) == [
        "GAN, a 1, b 2",
        "GAN, a 1, b 3, c x",
        "VAE",
        "odd name",
        "GAN",
    ]
    assert differing_labels(texts[:2]) == ["GAN, b 2", "GAN, b 3, c x"]
    assert differing_labels(texts[:1]) == ["GAN"]
    assert differing_labels([]) == []


def test_a_family_is_one_attack_at_all_budgets():
    implicit = family_of("pgd(epsilon=0.3, steps=40)", "linf")
    assert implicit == family_of("pgd(epsilon=0.1, steps=40)", "linf")
    assert implicit == family_of("pgd(epsilon=0.1, norm='linf', steps=40)", "linf")
    assert implicit != family_of("pgd(epsilon=0.3, steps=10)", "linf")
    assert implicit != family_of("pgd(epsilon=0.3, norm='l2', steps=40)", "l2")
    assert family_of("fgsm(epsilon=0.3)") == "fgsm"
    assert family_of("noise(3, epsilon=0.3)") == "noise(3)"
    assert family_of("odd name") == "odd name"


def test_unknown_names_and_norms_read_well():
    assert name_label("madry_cnn") == "Madry CNN"
    assert name_label("inc_celeba_generator") == "INC CelebA Generator"
    assert name_label("dcgan_discriminator") == "DCGAN Discriminator"
    assert name_label("hop_skip_jump") == "HopSkipJump"
    assert norm_label("l2") == "ℓ2"
    assert norm_label("elliptic") == "elliptic"


def test_only_specs_are_parsed():
    assert parse_spec("f(1, a=2)") == ("f", (1,), {"a": 2})
    assert parse_spec("f(1)(2)") is None
    assert parse_spec("3") is None
