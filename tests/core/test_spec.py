import dataclasses
import inspect
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import (
    attacks,
    data,
    defenses,
    evaluation,
    inversion,
    models,
    training,
)
from robust_manifold.core import keys, prior, spec
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check, is_whole, with_checked_fields

inner = Registry("inner")
outer = Registry("outer")


@inner.register("plain")
@dataclasses.dataclass(frozen=True)
class Plain:
    size: int = 1


@outer.register("full")
@dataclasses.dataclass(frozen=True)
class Full:
    epsilon: float
    norm: Literal["linf", "l2"] = "linf"
    steps: int = 40
    step_size: float | None = None
    flag: bool = False
    sizes: tuple = ()
    part: Plain | str = Plain()
    fixed: int = dataclasses.field(default=3, init=False)

    def __post_init__(self):
        if isinstance(self.part, str):
            object.__setattr__(self, "part", inner.build(self.part))
        check(self.epsilon >= 0, self, "epsilon", "0 or more")


@outer.register("simple")
@dataclasses.dataclass(frozen=True)
class Simple:
    pass


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("simple", Simple()),
        (" simple() ", Simple()),
        ("full(0.5)", Full(0.5)),
        ("full(1)", Full(1.0)),
        ("full(0.5, 'l2', steps=3)", Full(0.5, "l2", 3)),
        ("full(epsilon=0.5, step_size=0.1)", Full(0.5, step_size=0.1)),
        ("full(epsilon=0.5, step_size=None)", Full(0.5)),
        ("full(0.5, sizes=(1, 2), flag=True)", Full(0.5, sizes=(1, 2), flag=True)),
        ("full(0.5, part='plain(size=4)')", Full(0.5, part=Plain(4))),
        ("full(0.5, part=plain(size=4))", Full(0.5, part=Plain(4))),
        ("full(0.5, part=plain)", Full(0.5, part=Plain())),
    ],
)
def test_build_and_back(text, spec):
    built = outer.build(text)
    assert built == spec
    assert hash(built) == hash(spec)
    assert outer.build(outer.to_string(built)) == spec


def test_to_string_is_short():
    assert outer.to_string(Full(0.5, steps=3)) == "full(epsilon=0.5, steps=3)"
    assert outer.to_string(Simple()) == "simple"
    nested = Full(0.5, part=Plain(4))
    assert outer.to_string(nested) == "full(epsilon=0.5, part=plain(size=4))"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fulll(0.5)", "Unknown outer 'fulll'; known: full, simple. Did you mean"),
        ("zzz", "Unknown outer 'zzz'; known: full, simple."),
        ("full(epsilom=0.5)", "'epsilom'; known: epsilon,"),
        ("full(fixed=3, epsilon=1.0)", "'fixed'"),
        ("full()", "lacks the argument 'epsilon'"),
        ("full(0.5, epsilon=0.5)", "gives 'epsilon' twice"),
        ("simple(1)", "takes at most 0"),
        ("full('a')", "full.epsilon is 'a'; allowed: a number."),
        ("full(True)", "full.epsilon is True; allowed: a number."),
        ("full(0.5, norm='l3')", "'l3'; known: l2, linf."),
        ("full(0.5, steps=1.5)", "full.steps is 1.5; allowed: a whole number."),
        ("full(0.5, step_size='x')", "allowed: a number or None."),
        ("full(0.5, flag=1)", "full.flag is 1; allowed: a bool."),
        ("full(0.5, sizes=[1])", "allowed: a tuple."),
        ("full(-1)", "Full.epsilon is -1.0; allowed: 0 or more."),
        ("full(0.5, part='plane')", "Unknown inner 'plane'"),
        ("full(", "cannot be read"),
        ("full(x)", "full.epsilon is 'x'; allowed: a number."),
        ("full(open(1))", "full.epsilon is 'open(1)'; allowed: a number."),
        ("full(epsilon=1, epsilon=2)", "cannot be read"),
        ("full(epsilon={[]: 1})", "cannot be read"),
        ("full(**{'epsilon': 1})", "cannot be read"),
        ("a.b()", "cannot be read"),
        ("__import__('os').system('true')", "cannot be read"),
        ("", "cannot be read"),
        ("full(" * 3000, "cannot be read"),
        ("(" * 9000, "cannot be read"),
        ("full(" + "-" * 9000 + "1)", "cannot be read"),
        ("full(" + "not " * 2000 + "1)", "cannot be read"),
        ("full(epsilon=" + "1+" * 4000 + "1)", "cannot be read"),
        ("full(part=" * 33 + ")" * 33, "cannot be read"),
        ("a" * 10_001, "cannot be read"),
    ],
)
def test_bad_texts_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        outer.build(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_text_is_needed():
    with pytest.raises(UsageError, match="allowed: a text"):
        outer.build.__wrapped__(outer, 3)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered twice"):
        inner.register("plain")(Simple)


def test_names_and_classes():
    assert outer.names == ["full", "simple"]
    assert outer["simple"] is Simple
    assert outer.name_of(Simple()) == "simple"


@with_checked_fields
@dataclasses.dataclass(frozen=True)
class Named:
    epsilon: float
    steps: int = 3
    key_only: int = dataclasses.field(default=1, kw_only=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"eps": 1.0}, "Named has no field 'eps'; allowed: epsilon, steps, key_only."),
        ({"eps": 1.0}, "Did you mean 'epsilon'?"),
        ({"epsilon": 1.0, "step": 3}, "Did you mean 'steps'?"),
        ({}, "Named lacks the field 'epsilon'; allowed: epsilon, steps"),
        ({"args": (1.0, 2, 3)}, "3 values without their names; allowed: at most 2,"),
        ({"args": (1.0,), "epsilon": 2.0}, "is given the field 'epsilon' twice"),
    ],
)
def test_other_fields_give_one_sentence(arguments, words):
    args = arguments.pop("args", ())
    for kind in (UsageError, TypeError):
        with pytest.raises(kind) as error:
            Named(*args, **arguments)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, TypeError)


def test_an_error_of_a_specs_own_is_passed_on():
    @with_checked_fields
    @dataclasses.dataclass(frozen=True)
    class Broken:
        def __post_init__(self):
            raise TypeError("its own")

    with pytest.raises(TypeError, match="its own"):
        Broken()


def test_every_registered_spec_names_its_fields():
    from robust_manifold import config  # noqa: F401  it imports all registries

    assert len(spec._REGISTRIES) > 60
    for cls in spec._REGISTRIES:
        with pytest.raises(UsageError, match="has no field 'nonsense'; allowed: "):
            cls(nonsense=1)


PACKAGES = (attacks, data, defenses, evaluation, inversion, models, training)
NO_SPECS = {
    *("Problem", "Objective", "Search", "DefendedApply"),
    *("ModelSpec", "ClassifierSpec", "GeneratorSpec", "EncoderSpec"),
    *("DiscriminatorSpec", "DenoiserSpec"),
}
"""What holds a call's arrays and functions, and what specs are derived from."""


def exported_specs():
    exported = [vars(package)[name] for package in PACKAGES for name in package.__all__]
    exported += vars(prior).values()
    return {
        value.__name__: value
        for value in exported
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__dataclass_params__.frozen
        and not inspect.isabstract(value)
        and value.__name__ not in NO_SPECS
    }


def test_every_public_spec_names_its_fields():
    specs = exported_specs()
    assert {"LatentSearch", "OwnAttack", "Expectation", "Uniform", "PGD"} <= set(specs)
    for cls in specs.values():
        with pytest.raises(UsageError, match="has no field 'nonsense'; allowed: "):
            cls(nonsense=1)


@inner.register("counted")
@dataclasses.dataclass(frozen=True)
class Counted:
    count: int = 1
    rate: float = 0.5
    limit: int | None = None
    steps: tuple[int, ...] = ()
    other: float | str = "unit"

    def __post_init__(self):
        check(self.count >= 1, self, "count", "1 or more")
        check(0 < self.rate, self, "rate", "above 0")


@inner.register("stepped")
@dataclasses.dataclass(frozen=True)
class Stepped:
    steps: int = 1

    def __post_init__(self):
        check(is_whole(self.steps, 1), self, "steps", "1 or more")


def test_a_fraction_of_a_count_is_told_what_it_is():
    """Not that it should be 1 or more, which it is."""
    with pytest.raises(UsageError, match="steps is 5.0; allowed: a whole number."):
        Stepped(5.0)
    with pytest.raises(UsageError, match="steps is 0; allowed: 1 or more."):
        Stepped(0)


def test_hints_of_another_scope_do_not_matter():
    """They are for type checkers, which know names that Python cannot find."""

    class Part:
        pass

    @Registry("hinted").register("hinted")
    @dataclasses.dataclass(frozen=True)
    class Hinted:
        part: "Part | None" = None
        count: int = 1

    assert Hinted(count=np.int64(3)) == Hinted(count=3)


@pytest.mark.parametrize(
    "number", [np.int64(3), np.uint8(3), np.asarray(3), jnp.asarray(3)], ids=repr
)
def test_numbers_of_other_libraries_are_numbers(number):
    """One spec, however its numbers were computed: equal, and written alike."""
    assert is_whole(number, 3) and not is_whole(number, 4)
    spec = Counted(number, rate=np.float64(0.25), limit=number, steps=(number, 4))
    assert spec == Counted(3, 0.25, 3, (3, 4))
    assert hash(spec) == hash(Counted(3, 0.25, 3, (3, 4)))
    text = inner.to_string(spec)
    assert text == "counted(count=3, rate=0.25, limit=3, steps=(3, 4))"
    assert inner.build(text) == spec
    assert dataclasses.replace(spec, rate=jnp.asarray(0.5)).rate == 0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": True}, "Counted.count is True; allowed: a whole number."),
        ({"count": np.True_}, "Counted.count is True; allowed: a whole number."),
        ({"count": 2.5}, "Counted.count is 2.5; allowed: a whole number."),
        ({"count": np.float32(2)}, "Counted.count is 2.0; allowed: a whole number."),
        ({"count": "3"}, "Counted.count is '3'; allowed: a whole number."),
        ({"count": None}, "Counted.count is None; allowed: a whole number."),
        ({"count": 0}, "Counted.count is 0; allowed: 1 or more."),
        ({"rate": "fast"}, "Counted.rate is 'fast'; allowed: a number."),
        ({"rate": True}, "Counted.rate is True; allowed: a number."),
        ({"rate": None}, "Counted.rate is None; allowed: a number."),
        ({"limit": 1.5}, "Counted.limit is 1.5; allowed: a whole number or None."),
    ],
)
def test_what_is_no_number_is_named(fields, words):
    with pytest.raises(UsageError) as error:
        Counted(**fields)
    assert str(error.value) == words
    for value in fields.values():
        assert not is_whole(value, 1)


def test_a_renamed_class_and_field_keep_their_streams():
    """The text is today's; what random streams are named by stays what it was."""
    parts, before, now = Registry("part"), Registry("kind"), Registry("kind")

    @parts.register("brush", first_name="pen", first_fields={"width": "size"})
    @dataclasses.dataclass(frozen=True)
    class Brush:
        width: int = 1

    @before.register("soften")
    @dataclasses.dataclass(frozen=True)
    class Soften:
        w: float
        steps: int = 3
        part: object = None

    @now.register("blur", first_name="soften", first_fields={"width": "w"})
    @dataclasses.dataclass(frozen=True)
    class Blur:
        width: float
        steps: int = 3
        part: object = None

    for arguments in ((0.5,), (0.5, 4)):
        old, new = Soften(*arguments), Blur(*arguments)
        assert now.stream_name(new) == before.stream_name(old) == before.to_string(old)
    renamed = Blur(0.5, part=Brush(2))
    assert now.to_string(renamed) == "blur(width=0.5, part=brush(width=2))"
    assert now.stream_name(renamed) == "soften(w=0.5, part=pen(size=2))"
    one, other = (
        jax.random.key_data(keys.stream(jax.random.key(0), f"attack {name}"))
        for name in (now.stream_name(new), before.to_string(old))
    )
    np.testing.assert_array_equal(one, other)


def test_a_first_name_of_no_field_is_refused():
    with pytest.raises(ValueError, match="Simple has no field 'width'"):
        Registry("kind").register("simple", first_fields={"width": "w"})(Simple)
