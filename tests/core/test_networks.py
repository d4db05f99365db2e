"""Networks by role: what is bound, what is equal, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner, SpannerParams
from robust_manifold.core.networks import Networks


def generate(params, latent):
    return params * latent


def encode(params, image):
    return params + image


def scale(params, image, factor):
    return params["weight"] * image * factor


def test_a_function_is_bound_to_the_parameters_of_its_role():
    networks = Networks(denoiser=scale)
    bound = networks.bind({"denoiser": {"weight": jnp.float32(3.0)}})
    assert list(bound) == ["denoiser"] and networks.roles == ("denoiser",)
    assert bound["denoiser"](jnp.float32(2.0), 5.0) == 30


def test_a_generator_is_bound_to_a_manifold_and_brings_its_encoder():
    networks = Networks(generator=Spanner(generate, (2,), encode=encode))
    assert networks.roles == ("encoder", "generator")
    bound = networks.bind({"generator": SpannerParams(2.0, 3.0)})
    assert isinstance(bound["generator"], Manifold)
    assert bound["generator"].generate(4.0) == 8
    assert bound["encoder"](4.0) == bound["generator"].encode(4.0) == 7
    alone = Networks(generator=Spanner(generate, (2,)))
    assert alone.roles == ("generator",)
    assert "encoder" not in alone.bind({"generator": SpannerParams(2.0)})


def test_a_role_may_hold_a_stack():
    networks = Networks(decoders=(Spanner(generate, (2,)), Spanner(generate, (3,))))
    params = {"decoders": (SpannerParams(2.0), SpannerParams(5.0))}
    first, second = networks.bind(params)["decoders"]
    assert (first.generate(1.0), second.generate(1.0)) == (2, 5)
    assert second.latent_shape == (3,)
    nested = Networks(judges=((encode, encode), encode))
    bound = nested.bind({"judges": ((1.0, 2.0), 3.0)})["judges"]
    np.testing.assert_array_equal([bound[0][1](0.0), bound[1](0.0)], [2, 3])


def test_equal_networks_are_one_value():
    one = Networks(denoiser=scale, generator=Spanner(generate, (2,)))
    same = Networks(generator=Spanner(generate, (2,)), denoiser=scale)
    assert one == same and hash(one) == hash(same)
    assert one != Networks(denoiser=scale) != Networks()
    assert "denoiser=" in repr(one) and len(one) == 2 and one["denoiser"] is scale


REFUSED = {
    "no function": ({"denoiser": 3}, "the network 'denoiser' is 3; allowed: a func"),
    "an empty stack": ({"experts": ()}, r"'experts' is \(\); allowed"),
    "a stack of no functions": ({"experts": (encode, 3)}, "'experts' is 3; allowed"),
    "a bare generator": ({"generator": generate}, "'generator' is .*a Spanner"),
    "two encoders": (
        {"generator": Spanner(generate, (2,), encode=encode), "encoder": encode},
        "'encoder' is given beside the generator's own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_is_refused(name):
    roles, pattern = REFUSED[name]
    with pytest.raises(UsageError, match=pattern):
        Networks(**roles)


def test_missing_parameters_are_named():
    with pytest.raises(UsageError, match=r"'denoiser' are missing.*\(given: other\)"):
        Networks(denoiser=scale).bind({"other": 1})
    stack = Networks(judges=(encode, encode))
    with pytest.raises(
        UsageError, match="stack 'judges' has 2 networks and 1 parameters"
    ):
        stack.bind({"judges": (1.0,)})
