"""What is refused before any work: what can be seen to fail, or was another before."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from robust_manifold import attacks, defenses
from robust_manifold.config import Experiment
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import ENCODER, GENERATOR, THRESHOLD
from robust_manifold.inversion import Restarts, as_restarts
from robust_manifold.runtime import devices
from robust_manifold.stages import roles
from robust_manifold.stages.context import Context
from robust_manifold.stages.inputs import by_role, needed
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import rows


def check(context: Context, stages: Sequence[str]) -> None:
    """Refuses a run that can be seen to fail before any work.

    Args:
      context: the run.
      stages: those that are about to run; the others of the config are checked, too.

    Raises:
      UsageError: for the first thing that is wrong.
    """
    _check_config(context)
    for role in context.networks.roles:
        if not context.folder.stage_done(roles.stage(role)):
            model = context.networks.model_of(role)
            trained.check_elsewhere(context, role, model)
    _check_available(context, stages)
    if context.networks.roles:
        _check_same_data(context)
        _check_same_guesses(context, stages)
        _check_same_networks(context, stages)


def _check_config(context: Context) -> None:
    """Refuses what the config and the images alone show to be impossible."""
    networks, stages = context.networks, set(context.experiment.stages)
    evaluation = context.experiment.evaluation
    if not networks.roles:
        return
    if {"attack", "evaluate"} & stages:
        # Before the images are read, which may take long.
        rows.check_rows(evaluation)
        own = ({GENERATOR, ENCODER} & set(networks.roles)) | {THRESHOLD}
        rows.check_networks(evaluation, own, context.experiment.networks)
    context.data.check(stages)
    networks.check()
    if "attack" in stages:
        _check_attacks(context)
    if "evaluate" in stages:
        _ = context.data.given
    if {"attack", "evaluate"} & stages:
        _check_thresholds(context)
        _check_latents(context)
    _check_starts(context, stages)


def _check_attacks(context: Context) -> None:
    """Refuses what can't be made of this run's images."""
    evaluation = context.experiment.evaluation
    for attack in evaluation.attacks:
        if isinstance(attack, attacks.Patch):
            try:
                attack.check_images(context.data.dataset.image_shape[-1])
            except UsageError as error:
                raise UsageError(f"config.evaluation.attacks: {error}") from None
    if "substitute" in evaluation.adversaries and evaluation.attacks:
        _check_substitute(context)
    size = context.data.dataset.validation.size
    if evaluation.worst_case and evaluation.worst_case.size.pilot > size:
        raise UsageError(
            "config.evaluation.worst_case tries its adversaries on "
            f"{evaluation.worst_case.size.pilot} validation images; allowed: at most "
            f"the {size} that there are."
        )


def _check_thresholds(context: Context) -> None:
    """Refuses columns that reject where no images give a threshold."""
    for column in context.columns:
        if THRESHOLD in column.defence.needs and not context.data.validated.size:
            raise UsageError(
                f"config.evaluation.defences: {column.text!r} has its threshold from "
                "validation images, of which config.evaluation.validation_examples "
                "leaves none; allowed: 1 or more."
            )


def _check_latents(context: Context) -> None:
    """Refuses defences that can do nothing with this run's generator."""
    if GENERATOR not in context.networks.roles:
        return
    generator = context.networks.generator
    for column in context.columns:
        if GENERATOR in column.defence.needs:
            try:
                column.defence.check_latents(generator.starts, *generator.input_shape)
            except UsageError as error:
                raise UsageError(f"config.evaluation.defences: {error}") from None


def _check_substitute(context: Context) -> None:
    """Refuses a substitute that can't be trained on this run's images."""
    _ = context.networks.substitute
    seeds = context.experiment.evaluation.substitute.seeds
    size = context.data.dataset.validation.size
    if seeds > size:
        raise UsageError(
            "config.evaluation.substitute: SubstituteTraining.seeds is "
            f"{seeds}; allowed: at most the {size} validation images."
        )


def _check_starts(context: Context, stages: Collection[str]) -> None:
    """Refuses restarts that ask for an encoder where none is trained."""
    if "encoder" in context.networks.roles:
        return
    blocks = context.experiment
    asking = {
        "measures.restarts": ({"measure"}, [blocks.measures.restarts]),
        "diagnostics.restarts": ({"diagnose"}, [blocks.diagnostics.restarts]),
        "evaluation.adversaries": ({"attack"}, [*_asked_by_adversaries(blocks)]),
        "evaluation.defences": (
            needed.generating_stages(blocks),
            [
                as_restarts(defence.inner.restarts)
                for defence in blocks.evaluation.defences
                if isinstance(defence.inner, defenses.InvertAndClassify)
            ],
        ),
    }
    for name, (users, every) in asking.items():
        for restarts in every:
            if users & set(stages) and restarts.encoded:
                raise UsageError(
                    f"config.{name}: Restarts.encoded is {restarts.encoded}; "
                    "allowed: 0 or None where config.stages has no fit_encoder."
                )


def _asked_by_adversaries(experiment: Experiment) -> Iterator[Restarts]:
    """Yields the restarts that adversaries have of their own."""
    block = experiment.evaluation
    for adversary in map(defenses.adversaries.build, block.adversaries):
        if not isinstance(adversary, defenses.BPDA):
            continue
        if isinstance(adversary.stand_in, defenses.InvertAndClassify):
            yield as_restarts(adversary.stand_in.restarts)
        elif adversary.stand_in is None and any(c.projects for c in block.columns):
            yield as_restarts(adversary.restarts)


def _check_available(context: Context, stages: Sequence[str]) -> None:
    """Refuses stages that use what is not there and none of them makes."""
    for name in context.networks.roles_of(stages):
        if roles.stage(name) not in stages:
            trained.check_finished(context, name)
    attacked = context.experiment.evaluation.attacked
    if attacked and "evaluate" in stages and "attack" not in stages:
        if not context.folder.stage_done("attack"):
            raise UsageError(
                f"{context.folder.path} holds no attacked images to evaluate; run the "
                "stage attack first, by config.stages and, where it is given, --stages."
            )
    if "audit" in stages and "evaluate" not in stages:
        if not context.folder.stage_done("evaluate"):
            raise UsageError(
                f"{context.folder.path} holds no evaluation to audit; run the stage "
                "evaluate first, by config.stages and, where it is given, --stages."
            )

    if "report" in stages:
        for stage in _REPORTED:
            own = context.experiment.stages
            if stage in own and stage not in stages:
                _check_reported(context, stage)


_REPORTED = ("convergence", "measure", "diagnose", "evaluate")
"""Stages that a report shows the figures of, where config.stages has them."""


def _check_reported(context: Context, stage: str) -> None:
    if not context.folder.stage_done(stage):
        raise UsageError(
            f"{context.folder.path} holds no results of the stage {stage} to report; "
            "run it first, by --stages, or leave it out of config.stages."
        )


def _check_same_data(context: Context) -> None:
    """Refuses a folder whose artefacts were made from other images."""
    splits, folder = context.data.digests, context.folder
    for name, stored in _stored_once(context, "data.json", splits).items():
        if stored != splits[name]:
            raise UsageError(
                f"The {name} images of {context.experiment.data.source!r} have "
                f"changed since {folder.path} was made; use another --workdir."
            )


def _check_same_guesses(context: Context, stages: Collection[str]) -> None:
    """Refuses to invert with an encoder beside what was inverted without one.

    `config.stages`, which may change in a run folder, says whether there is one.
    """
    networks, training = context.networks, {"fit_generator", "fit_encoder"}
    if "generator" not in networks.roles_of(set(stages) - training):
        return
    uses = networks.spanner.encode is not None
    if _stored_once(context, "guesses.json", {"encoder": uses})["encoder"] != uses:
        was, now = ("without", "with") if uses else ("with", "without")
        raise UsageError(
            f"{context.folder.path} holds inversions {was} an encoder, and "
            f"config.stages is now {now} fit_encoder; choose another --workdir, or "
            "give the stored stages."
        )


def _check_same_networks(context: Context, stages: Collection[str]) -> None:
    """Reads the networks of `config.networks`, and refuses others than before."""
    using, networks = {"attack", "evaluate", "audit"}, context.experiment.networks
    if not using & set(stages) or not networks:
        return
    further = context.networks.further
    if not further:
        return
    told = {
        role: {**found.origin, "sha256": found.sha256}
        for role, found in further.items()
    }
    for role, stored in _stored_once(context, by_role.FILE, told).items():
        if stored["sha256"] != further[role].sha256:
            raise UsageError(
                f"config.networks.{role} has other parameters than when "
                f"{context.folder.path} was made; use another --workdir."
            )


def _stored_once(context: Context, file: str, found: dict[str, Any]) -> dict[str, Any]:
    """Returns what a file of the run folder holds: what was found the first time."""
    if not context.folder.has(file):
        context.folder.write_json(file, found)
        devices.barrier(f"{file} written")
    return context.folder.read_json(file)
