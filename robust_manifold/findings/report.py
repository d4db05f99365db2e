"""Stage `report`: tables, figures and the page, from stored files alone."""

import shlex
from collections.abc import Iterator

from robust_manifold import findings
from robust_manifold.core.errors import UsageError
from robust_manifold.findings.finding import Finding, Shown, Words
from robust_manifold.reporting import html, tables
from robust_manifold.runtime import console, devices, provenance
from robust_manifold.runtime.run_folder import stands
from robust_manifold.stages import Context

_WORDS = Words("Trained networks", "")
"""How a report opens that shows no measured thing."""


def run(context: Context) -> list[str]:
    """Writes `report/` and prints the tables, in the first process of a job."""
    error = None
    if context.folder.primary:
        try:
            _report(context)
        except UsageError as mistake:
            error = mistake
    # What the first process refuses, all refuse: none may wait for it in vain.
    if devices.any_process(error is not None):
        raise error or UsageError("the first process says why there is no report.")
    return ["report/report.html", "report/table.md"]


def _report(context: Context) -> None:
    found = list(_finished(context))
    shown = [finding.show(context) for finding in found]
    told = [*_each(shown, "tables")]
    sections = [*_each(shown, "sections")]
    every = [*told, *(table for part in sections for table in part.tables)]
    printed = [*every, *_each(shown, "timed")]
    every += [*_each(shown, "folded")]
    every += [table for part in sections for table in part.folded]
    for extension, write in tables.WRITERS.items():
        text = "\n".join(write(table) for table in every)
        context.folder.write_text(f"report/table.{extension}", text)
    figures = [*_each(shown, "figures")]
    for name, figure in figures:
        context.folder.write_bytes(f"report/figures/{name}.png", figure.png)
    opening = next((f.words(context) for f in found if f.words), _WORDS)
    computed = provenance.results_of(context.folder.status)
    page = html.Report(
        title=context.experiment.title or opening.heading,
        explanation=opening.explanation,
        notice=next((each.notice for each in shown if each.notice), None),
        tables=[*told, *_each(shown, "timed")],
        folded_tables=[*_each(shown, "folded"), *_each(shown, "aside")],
        figures=[figure for _, figure in figures],
        sections=sections,
        stage_seconds=context.folder.status.get("stage_seconds", {}),
        config=context.folder.config,
        environment=provenance.environment_of(computed),
        command="\n".join(map(_command, provenance.commands_of(computed))),
    )
    context.folder.write_text("report/report.html", html.render_html(page))
    for table in printed:
        console.show(f"\n{tables.to_console(table)}")
    console.show(f"Report: {context.folder.path / 'report' / 'report.html'}")


def _each(shown: list[Shown], name: str) -> Iterator:
    """Yields one field of all findings, in their order."""
    for one in shown:
        yield from getattr(one, name)


def _finished(context: Context) -> Iterator[Finding]:
    """Yields the findings whose stages have finished.

    Raises:
      UsageError: if a file that a finished stage has written is not there any more.
    """
    finished = context.folder.status["finished_stages"]
    for finding in findings.wanted(context.experiment):
        stage = finding.name if finding.find else finding.after
        if stage and stage not in finished:
            console.warning(f"The report is without {stage}, which has not finished.")
            continue
        for output in finished.get(stage, ()):
            if not stands(context.folder, output):
                raise UsageError(
                    f"{context.folder.path} lacks {output}, which {stage} has written; "
                    f"allowed: --stages={stage},report, which makes it anew."
                )
        yield finding


def _command(command: list[str]) -> str:
    """Returns the command line as a user types it."""
    return shlex.join(["python", "-m", "robust_manifold.main", *command[1:]])
