"""Purifiers that are no inversion: what each adversary sees of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.defenses import (
    BitDepth,
    Defended,
    Defense,
    DefenseParams,
    InvertAndClassify,
    Networks,
    Purified,
    Purifier,
    adversaries,
    defended_apply,
    view_passes,
)
from robust_manifold.inversion import repeated
from tests.defenses.registered import MEDIAN, register_median

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SHAPE = (3, 4, 1)
IMAGE = RNG.uniform(0.3, 0.7, size=SHAPE).astype(np.float32)
READOUT = RNG.normal(size=(12, 2)).astype(np.float32)
BASIS = np.linalg.qr(RNG.normal(size=(12, 2)))[0].astype(np.float32)
MIXING = (RNG.normal(size=(12, 12)) / 12**0.5).astype(np.float32)


def classify(params, image):
    return jnp.sin(image.reshape(-1) @ params)


def generate(params, latent):
    return (params @ latent).reshape(SHAPE)


def encode(params, image):
    return jnp.concatenate([image.reshape(-1) @ params, jnp.zeros(2)])


def denoise(params, image):
    # Whoever tells the level of the noise tells it in a second channel.
    return (params @ image[..., :1].reshape(-1)).reshape(SHAPE)


NETWORKS = Networks(generator=Spanner(generate, (2,), encode=encode), denoiser=denoise)
PARAMS = DefenseParams(
    {"generator": SpannerParams(BASIS, BASIS), "denoiser": MIXING}, READOUT
)
BARE = Networks()


def view_of(text, defence, networks=NETWORKS):
    return adversaries.build(text).view(defence, networks, classify)


def jacobian(apply, image=IMAGE):
    found = jax.jit(jax.jacrev(lambda x: apply(PARAMS, x, KEY)))(jnp.asarray(image))
    return np.asarray(found).reshape(2, 12)


def slopes(image):
    """The derivative of the bare classifier, [2, 12]."""
    flat = np.asarray(image).reshape(-1)
    return np.cos(flat @ READOUT)[:, None] * READOUT.T


def purified(defence, image=IMAGE):
    bound = NETWORKS.bind(PARAMS.networks)
    return np.asarray(defence.purify(KEY, bound, jnp.asarray(image)).image)


@dataclasses.dataclass(frozen=True)
class Denoising(Purifier):
    """A linear network, some times over."""

    steps: int = 1
    needs = ("denoiser",)

    def purify(self, key, networks, image):
        return Purified(repeated(networks["denoiser"], image, self.steps))


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_leaves_so_many_values(bits):
    levels = 2**bits - 1
    values = np.arange(256, dtype=np.float32).reshape(16, 16, 1) / 255
    found = purified(BitDepth(bits), values)
    assert len(np.unique(found)) == levels + 1
    assert np.abs(found - values).max() <= (0.5 + 1e-4) / levels
    np.testing.assert_allclose(found * levels, np.round(found * levels), atol=1e-4)
    np.testing.assert_array_equal(purified(BitDepth(bits), found), found)


@pytest.mark.parametrize("text", ["bits=0", "bits=9", "bits=2.5"])
def test_bit_depth_checks_its_field(text):
    with pytest.raises(UsageError, match="bits is"):
        defenses.registry.build(f"bit_depth({text})")


def test_an_encoder_and_a_generator_project_without_a_search():
    defence = defenses.registry.build("encode_and_generate")
    projector = BASIS @ BASIS.T
    expected = (projector @ IMAGE.reshape(-1)).reshape(SHAPE)
    np.testing.assert_allclose(purified(defence), expected, atol=1e-6)
    found = jacobian(view_of("unrolled", defence))
    np.testing.assert_allclose(found, slopes(expected) @ projector, atol=1e-5)


PURIFIERS = {
    "bit_depth": BitDepth(2),
    "denoiser": Denoising(),
    "looping": Denoising(5),
    "encode_and_generate": defenses.EncodeAndGenerate(),
    "diffusion": defenses.Diffusion(0.1, steps=1),
}
STAND_IN = "bpda(stand_in=encode_and_generate)"


def _within(image):
    """Which pixels are not cut at 0 or 1, [12, 1]."""
    return ((image > 0) & (image < 1)).reshape(-1, 1)


@pytest.mark.parametrize("name", PURIFIERS)
@pytest.mark.parametrize("text", ["straight_through", "unrolled", STAND_IN])
def test_every_purifier_meets_every_view(name, text):
    """Forwards all see the defence; backwards each what it says."""
    defence = PURIFIERS[name]
    view = view_of(text, defence)
    defended = defended_apply(defence, NETWORKS, classify)
    image = jnp.asarray(IMAGE)
    seen, true = (jax.jit(each)(PARAMS, image, KEY) for each in (view, defended))
    np.testing.assert_allclose(seen, true, rtol=1e-5)
    own = {
        "bit_depth": np.zeros((12, 12)),
        "denoiser": MIXING,
        "looping": np.linalg.matrix_power(MIXING.astype(np.float64), 5),
        "encode_and_generate": BASIS @ BASIS.T,
        "diffusion": _within(purified(defence)) * MIXING,
    }[name]
    inner = {"straight_through": np.eye(12), "unrolled": own}.get(text, BASIS @ BASIS.T)
    expected = slopes(purified(defence)) @ inner
    found = jacobian(view)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, abs(expected).max()))


def test_another_purifier_or_an_inversion_may_stand_in():
    smooth = "bpda(stand_in=bit_depth(bits=1))"
    assert not jacobian(view_of(smooth, Denoising())).any()
    assert adversaries.to_string(adversaries.build(smooth)) == smooth
    search = "invert_and_classify(solver=levenberg_marquardt(steps=3), restarts=1)"
    found = jacobian(view_of(f"bpda(stand_in={search})", BitDepth(2)))
    expected = slopes(purified(BitDepth(2))) @ BASIS @ BASIS.T
    np.testing.assert_allclose(found, expected, atol=1e-4)
    built = adversaries.build(f"bpda(stand_in={search})")
    assert built == defenses.BPDA(stand_in=defenses.registry.build(search))


def test_of_a_defence_with_a_generator_a_short_inversion_stands_in():
    short = defenses.BPDA("levenberg_marquardt(steps=3)", 1)
    view = short.view(defenses.EncodeAndGenerate(), NETWORKS, classify)
    inverting = InvertAndClassify("levenberg_marquardt(steps=3)", 1)
    assert view.derivative.other == inverting


REFUSED = {
    "bpda": "BPDA.stand_in is None; allowed with 'bit_depth', which has no generator",
    "implicit": "defence is 'bit_depth'; allowed with the adversary 'implicit': none",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_met_is_refused_in_a_sentence(text):
    with pytest.raises(UsageError, match=REFUSED[text]):
        view_of(text, BitDepth())
    with pytest.raises(UsageError, match=REFUSED[text]):
        adversaries.build(text).check_meets(BitDepth())


def test_a_stand_in_purifies():
    with pytest.raises(UsageError, match="BPDA.stand_in: 'none' purifies no image"):
        adversaries.build("bpda(stand_in=none)")
    with pytest.raises(UsageError, match="BPDA.stand_in: Unknown defence 'median'"):
        adversaries.build("bpda(stand_in=median)")


MISSING = {
    "of a defence": ("straight_through", Denoising()),
    "of a stand-in": (STAND_IN, BitDepth()),
}


@pytest.mark.parametrize("name", MISSING)
def test_networks_that_are_missing_are_named(name):
    text, defence = MISSING[name]
    with pytest.raises(UsageError, match="networks has the roles none; allowed with"):
        view_of(text, defence, BARE)


def test_a_defence_without_its_networks_is_refused():
    with pytest.raises(UsageError, match="'invert_and_classify': generator"):
        defended_apply(InvertAndClassify(), BARE, classify)
    with pytest.raises(UsageError, match="'invert_and_classify': generator"):
        defenses.defend(
            InvertAndClassify(), BARE, classify, PARAMS, IMAGE[None], key=KEY
        )


@dataclasses.dataclass(frozen=True)
class Ensemble(Defense):
    """The mean over a stack of classifiers, with the spread as its detail."""

    needs = ("members",)

    def defend(self, key, networks, classify, image):
        logits = jnp.stack([member(image) for member in networks["members"]])
        return Defended(logits.mean(axis=0), details={"spread": logits.std(axis=0)})


def test_a_stack_of_networks_and_details_of_its_own():
    networks = Networks(members=(classify, classify))
    params = DefenseParams({"members": (READOUT, -READOUT)}, None)
    images = np.stack([IMAGE, 1 - IMAGE])
    found = defenses.defend(Ensemble(), networks, classify, params, images, key=KEY)
    np.testing.assert_allclose(found.output, np.zeros((2, 2)), atol=1e-6)
    one = np.abs(np.sin(images.reshape(2, 12) @ READOUT))
    np.testing.assert_allclose(found.details["spread"], one, rtol=1e-4)
    assert found.purified is None
    view = adversaries.build("unrolled").view(Ensemble(), networks, classify)
    assert view == defended_apply(Ensemble(), networks, classify)


def test_what_looks_at_purifiers_cost():
    """One pass each of the classifier; a stand-in's on top."""
    defence = BitDepth()
    for text in (
        "straight_through",
        "unrolled",
        "decision",
        "bpda(stand_in=bit_depth)",
    ):
        assert view_passes(adversaries.build(text), defence, 0) == (1, 1)
    assert view_passes(adversaries.build("unrolled(samples=3)"), defence, 0) == (3, 3)
    assert view_passes(adversaries.build(STAND_IN), defence, 2) == (1, 1 + 2 + 2)
    both = defenses.EncodeAndGenerate()
    assert view_passes(adversaries.build("unrolled"), both, 2) == (3, 1 + 2)


def test_a_users_filter_is_a_short_file_and_is_attacked_as_any_other(monkeypatch):
    median = register_median(monkeypatch)
    assert len(MEDIAN.read_text().splitlines()) <= 40
    defence = defenses.registry.build("median(size=3)")
    assert defence == median(3)
    ramp = np.arange(12, dtype=np.float32).reshape(SHAPE) / 12
    # Inside a ramp the median is the pixel itself; at the edge by hand.
    expected = np.array([1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10]).reshape(SHAPE) / 12
    np.testing.assert_allclose(purified(defence, ramp), expected, rtol=1e-6)
    for text in ("straight_through", "unrolled", "bpda(stand_in=median(size=1))"):
        view = attacks.Expectation(view_of(text, defence, BARE))
        found = attacks.craft(
            attacks.FGSM(0.1),
            attacks.Expectation(defended_apply(defence, BARE, classify)),
            DefenseParams({}, READOUT),
            IMAGE[None],
            np.array([0]),
            key=KEY,
            view=view,
        )
        assert np.abs(found.images - IMAGE[None]).max() > 0.05
    with pytest.raises(UsageError, match="size is 2; allowed: an odd number"):
        median(2)


@dataclasses.dataclass(frozen=True)
class Mistaken(Purifier):
    """What users write at the first try."""

    mistake: str

    def purify(self, key, networks, image):
        if self.mistake == "an array":
            return image
        if self.mistake == "another shape":
            return Purified(image[None])
        return Purified(networks["denoiser"](image))


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("an array", r"Mistaken\.purify returned .*; allowed: Purified\(image"),
        ("another shape", r"Mistaken\.purify returned an image of the shape \(1, 3"),
        ("no such network", "asks for the network 'denoiser', which is not there"),
    ],
)
@pytest.mark.parametrize("adversary", ["straight_through", "unrolled"])
def test_what_a_purifier_gives_wrongly_is_told_of_it(mistake, told, adversary):
    view = adversaries.build(adversary).view(Mistaken(mistake), BARE, classify)
    with pytest.raises(UsageError, match=told):
        attacks.craft(
            attacks.PGD(0.1, steps=1),
            attacks.Expectation(view),
            DefenseParams({}, READOUT),
            IMAGE[None],
            [0],
            key=KEY,
        )
    with pytest.raises(UsageError, match=told):
        defenses.defend(
            Mistaken(mistake),
            BARE,
            classify,
            DefenseParams({}, READOUT),
            IMAGE[None],
            key=KEY,
        )
