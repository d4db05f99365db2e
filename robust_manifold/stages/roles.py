"""The roles of a run's networks: the names under which they are stored and found."""

from robust_manifold.config import CLASSIFIER

_PREFIX = f"{CLASSIFIER}-"


def of_classifier(name: str) -> str:
    """Returns the role of a classifier.

    >>> of_classifier("classifier"), of_classifier("robust")
    ('classifier', 'classifier-robust')
    """
    return name if name == CLASSIFIER else _PREFIX + name


def classifier_of(role: str) -> str | None:
    """Returns the name of the classifier of a role; None where it is none's.

    >>> classifier_of("classifier-robust"), classifier_of("generator")
    ('robust', None)
    """
    if role == CLASSIFIER:
        return role
    return role.removeprefix(_PREFIX) if role.startswith(_PREFIX) else None


def place(role: str) -> str:
    """Returns the block of the config that says how a network is made.

    >>> place("classifier-robust"), place("generator")
    ('classifiers.robust', 'generator')
    """
    name = classifier_of(role)
    return f"classifiers.{name}" if name not in (None, CLASSIFIER) else role


def stage(role: str) -> str:
    """Returns the stage that makes a network.

    >>> stage("classifier-robust"), stage("generator")
    ('fit_classifiers', 'fit_generator')
    """
    named = classifier_of(role) not in (None, CLASSIFIER)
    return "fit_classifiers" if named else f"fit_{role}"
