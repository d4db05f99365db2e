import dataclasses
from typing import Literal

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check

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
