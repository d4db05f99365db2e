"""Readable names of attacks, defences, adversaries and norms.

The names are read off the texts that results.csv stores, so that a report needs no
attack or defence, and an attack that is not known here still reads well.
"""

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robust_manifold import inversion
from robust_manifold.core.errors import UsageError

CLEAN = "clean"
"""The `attack` of a cell without one."""

NO_DEFENCE = "none"
"""The `defence` of a cell without one."""

WORST_CASE = "worst case"
"""The `adversary` of a cell that counts all adversaries together."""

_NAMES = {
    "none": "No defence",
    "any_attack": "Any attack",
    "autoattack": "AutoAttack",
    "auto_attack": "AutoAttack",
    "carlini_wagner": "Carlini-Wagner",
    "deepfool": "DeepFool",
    "defense_gan": "Defense-GAN",
    "elastic_net": "Elastic Net",
    "encode_and_generate": "Encode and Generate",
    "hop_skip_jump": "HopSkipJump",
    "lbfgs": "L-BFGS",
    "levenberg_marquardt": "Levenberg-Marquardt",
    "invert_and_classify": "Invert and Classify",
    "enhanced_invert_and_classify": "Enhanced Invert and Classify",
    "rand_fgsm": "RAND+FGSM",
    "sigma_zero": "Sigma-zero",
}
# Spelt out although they hold a vowel.
_ACRONYMS = set("alma apgd bim bpda dcgan eot fab gan inc jsma spsa vae wgan".split())
_WORDS = {"celeba": "CelebA", "mnist": "MNIST", "resnet": "ResNet"}
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}
"""`pixels` is a word already."""
_GREEK = {"epsilon": "ε", "alpha": "α", "eta": "η", "kappa": "κ", "tau": "τ"}


class SpecText(NamedTuple):
    """The parts of a text such as "pgd(epsilon=0.3, steps=40)"."""

    name: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]


def parse_spec(text: str) -> SpecText | None:
    """Returns the parts of a spec's text, or None where it is no such text.

    >>> parse_spec("fgsm(epsilon=0.1)")
    SpecText(name='fgsm', positional=(), named={'epsilon': 0.1})
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return SpecText(node.id, (), {})
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return None
        return SpecText(
            name=node.func.id,
            positional=tuple(_value(argument) for argument in node.args),
            named={str(word.arg): _value(word.value) for word in node.keywords},
        )
    # Python's parser gives up with the last two on many signs in a row.
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def label_of(
    text: str, overrides: Mapping[str, str] | None = None, norm: str = ""
) -> str:
    """Returns the readable name of an attack or a defence with its settings.

    >>> label_of("clean"), label_of("none")
    ('Clean', 'No defence')
    >>> label_of("fgsm(epsilon=0.05)")
    'FGSM ε=0.05'
    >>> label_of("pgd(epsilon=1.5, norm='l2', steps=40, random_start=False)")
    'PGD ℓ2 ε=1.5, 40 steps, no random start'

    Args:
      text: a spec's text; any other text is returned as it is.
      overrides: labels to prefer, by text.
      norm: the attack's norm, shown where `text` does not say it, unless it is
        "linf": an ε without a norm is an ℓ∞ budget everywhere in a report.
    """
    if overrides and text in overrides:
        return overrides[text]
    spec = parse_spec(text)
    if spec is None:
        return text
    named = dict(spec.named)
    head = [name_label(spec.name)]
    shown_norm = named.pop("norm", norm if norm != "linf" else "")
    if shown_norm:
        head.append(norm_label(str(shown_norm)))
    if "epsilon" in named:
        head.append(f"ε={_number(named.pop('epsilon'))}")
    head += [_number(value) for value in spec.positional]
    settings = [_setting(name, value) for name, value in named.items()]
    return ", ".join([" ".join(head), *settings])


def attack_label(text: str, overrides: Mapping[str, str] | None = None) -> str:
    """Returns the readable name of an attack without its budget.

    >>> attack_label("pgd(epsilon=0.3, norm='linf', steps=40)")
    'PGD, 40 steps'
    """
    spec = parse_spec(text)
    if spec is None or (overrides and text in overrides):
        return label_of(text, overrides)
    kept = {k: v for k, v in spec.named.items() if k not in ("epsilon", "norm")}
    return label_of(_spec_text(spec.name, spec.positional, kept))


def adversary_label(text: str) -> str:
    """Returns the readable name of an adversary with its settings.

    >>> adversary_label("unrolled(samples=4)"), adversary_label("worst case")
    ('Unrolled, 4 samples', 'Worst case')
    """
    return label_of(text) if parse_spec(text) else text[:1].upper() + text[1:]


def in_prose(label: str) -> str:
    """Returns a label as it stands within a sentence: acronyms stay as they are.

    >>> in_prose("Straight Through"), in_prose("BPDA, solver L-BFGS (6 steps)")
    ('straight through', 'BPDA, solver L-BFGS (6 steps)')
    """
    words = label.split(" ")
    return " ".join(w if w.isupper() and len(w) > 1 else w.lower() for w in words)


def budget_label(norm: str, epsilon: float | None) -> str:
    """Returns the readable name of a budget.

    >>> budget_label("linf", 0.1), budget_label("l2", None), budget_label("", None)
    ('ℓ∞ ε=0.1', 'ℓ2, no budget', 'Clean')
    """
    if epsilon is not None and not math.isnan(epsilon):
        return f"{norm_label(norm)} ε={epsilon:g}"
    return f"{norm_label(norm)}, no budget" if norm else "Clean"


def union_labels(rows: Iterable[Any]) -> list[str]:
    """Returns what each line of unions.csv is of: a ball, or the union of some.

    >>> from types import SimpleNamespace
    >>> line = SimpleNamespace(union="union(linf=0.3, l2=1.5)", norm="", epsilon=None)
    >>> union_labels([line])
    ['Any of ℓ∞ 0.3, ℓ2 1.5']

    Args:
      rows: lines, with `union`, `norm` and `epsilon`.
    """
    return [
        budget_label(row.norm, row.epsilon) if row.norm else _union_label(row.union)
        for row in rows
    ]


def _union_label(text: str) -> str:
    spec = parse_spec(text)
    named = spec.named if spec else {}
    balls = [f"{norm_label(norm)} {radius:g}" for norm, radius in named.items()]
    return f"Any of {', '.join(balls)}" if balls else text


def family_of(text: str, norm: str = "") -> str:
    """Returns the spec's text without its budget: equal for one attack at many ε.

    >>> family_of("pgd(epsilon=0.3, steps=40)", "linf")
    "pgd(norm='linf', steps=40)"

    Args:
      text: a spec's text; any other text is returned as it is.
      norm: the attack's norm, written out where `text` leaves it to the default.
    """
    spec = parse_spec(text)
    if spec is None:
        return text
    named = {"norm": norm, **spec.named} if norm else dict(spec.named)
    named.pop("epsilon", None)
    return _spec_text(spec.name, spec.positional, named)


def name_label(name: str) -> str:
    """Returns the readable form of one name of a registry.

    >>> [name_label(n) for n in ("fgsm", "momentum_pgd", "fog", "rand_fgsm")]
    ['FGSM', 'Momentum PGD', 'Fog', 'RAND+FGSM']
    """
    if name in _NAMES:
        return _NAMES[name]
    return " ".join(_word(word) for word in name.split("_") if word)


def norm_label(norm: str) -> str:
    """Returns the sign of a norm: "ℓ∞" for "linf"; other texts as they are."""
    return _NORMS.get(norm, norm)


def column_labels(
    texts: list[str], overrides: Mapping[str, str] | None = None
) -> list[str]:
    """Returns short labels: the bare name where it tells the texts apart.

    >>> column_labels(["none", "invert_and_classify(restarts=4)"])
    ['No defence', 'Invert and Classify']
    >>> column_labels(["defense_gan", "defense_gan(restarts=2)"])
    ['Defense-GAN', 'Defense-GAN, 2 restarts']
    """
    overrides = overrides or {}
    specs = {text: parse_spec(text) for text in texts}
    short = {
        text: overrides.get(text, name_label(spec.name) if spec else text)
        for text, spec in specs.items()
    }
    seen = list(short.values())
    return [
        short[text] if seen.count(short[text]) == 1 else label_of(text, overrides)
        for text in texts
    ]


def differing_labels(texts: Sequence[str]) -> list[str]:
    """Returns the labels of specs without the settings that all of one name share.

    >>> gans = ["gan(loss='hinge', k=2)", "gan(loss='minimax', k=2)", "vae(beta=2.0)"]
    >>> differing_labels(gans)
    ['GAN, loss hinge', 'GAN, loss minimax', 'VAE']
    """
    specs = [parse_spec(text) for text in texts]
    labels = []
    for text, spec in zip(texts, specs, strict=True):
        if spec is None:
            labels.append(text)
            continue
        alike = [other.named for other in specs if other and other.name == spec.name]
        kept = {
            name: value
            for name, value in spec.named.items()
            if any(name not in named or named[name] != value for named in alike)
        }
        labels.append(label_of(_spec_text(spec.name, spec.positional, kept)))
    return labels


def _spec_text(name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> str:
    """Returns the text of a spec: what `parse_spec` reads."""
    values = [repr(value) for value in positional]
    values += [f"{field}={value!r}" for field, value in named.items()]
    return f"{name}({', '.join(values)})" if values else name


def _word(word: str) -> str:
    if word in _WORDS:
        return _WORDS[word]
    spelt = word in _ACRONYMS or not re.search("[aeiouy]", word)
    return word.upper() if spelt else word[:1].upper() + word[1:]


def _value(node: ast.expr) -> Any:
    """Returns a literal's value; of anything else, its text."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return ast.unparse(node)


def _number(value: Any) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def _setting(name: str, value: Any) -> str:
    """Returns one argument in words: "40 steps", "no random start", "α=0.05"."""
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    if name in _GREEK:
        return f"{_GREEK[name]}={_number(value)}"
    if isinstance(value, int) and words.endswith("s"):
        return f"{value} {words.removesuffix('s') if value == 1 else words}"
    if isinstance(value, str) and "(" in value:
        head, _, settings = label_of(value).partition(", ")
        return f"{words} {head} ({settings})" if settings else f"{words} {head}"
    return f"{words} {_number(value)}"


def restarts_label(text: str) -> str:
    """Returns the starts of an inversion in words.

    >>> restarts_label("10"), restarts_label("1")
    ('best of 10 starts', 'one start')
    >>> restarts_label("restarts(count=8, scale='unit', halve_at=(2, 4))")
    'best of 8 starts (scale unit, halve at (2, 4))'
    """
    try:
        count = inversion.as_restarts(text).count
    except UsageError:
        # Of another version of the package, perhaps.
        return text
    spec = parse_spec(text)
    settings = dict(spec.named) if spec else {}
    settings.pop("count", None)
    starts = f"best of {count} starts" if count > 1 else "one start"
    if not settings:
        return starts
    arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{starts} ({label_of(f'_({arguments})').removeprefix(', ')})"
