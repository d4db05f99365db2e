"""Metrics as JSON lines, one a logged step, that a resumed run continues exactly."""

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import json_text
from robust_manifold.runtime.artefacts import (
    LOG_REMEDY,
    Artefacts,
    DamagedArtefact,
    write_atomically,
)


class MetricsWriter:
    """Appends lines such as {"stage": "fit", "step": 100, "loss": 0.3}.

    Each line reaches the file at once.  A value that is not finite is written as a
    text ("NaN", "Infinity", "-Infinity"), so every line is valid JSON.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        primary: bool = True,
        tensorboard: bool = False,
        entered: Artefacts | None = None,
    ):
        """Opens the file for appending; a last line cut short is removed.

        Args:
          path: the file, made if it does not exist.
          primary: whether this process writes; elsewhere nothing happens.
          tensorboard: also write event files, to the folder `tensorboard` beside
            `path`.
          entered: the artefacts of the folder of `path`, where its lines get a
            checksum; none by default.

        Raises:
          UsageError: if TensorBoard is asked for and tensorboardX is not installed.
          DamagedArtefact: if a line before the last one is not JSON, or lines that
            were entered are not there any more as they were.
        """
        self._path = Path(path)
        self._entered = entered
        self._file: IO[bytes] | None = None
        self._board: Any = None
        if not primary:
            return
        if tensorboard:
            self._board = _summary_writer(self._path.parent / "tensorboard")
        if entered is not None:
            entered.check_log(self._path.name)
        lines = read_metrics(self._path) if self._path.exists() else []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._rewrite_if_changed(lines)
        except BaseException:
            self.close()
            raise

    def write(self, stage: str, step: int, **values: Any) -> None:
        """Writes one line of scalars."""
        if self._file is None:
            return
        line = {"stage": stage, "step": step, **values}
        self._append(_encode(line))
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{stage}/{name}", float(value), step)

    def rewind(self, stage: str, step: int = -1, *, of_step: int | None = None) -> None:
        """Drops the lines of `stage` after `step`; by default all of them.

        A run that resumes at `step` writes them again.

        Args:
          stage: whose lines.
          step: the last to be kept.
          of_step: how many lines of this one are kept at most; by default all.
        """
        if self._file is None:
            return
        self._file.close()
        lines = read_metrics(self._path)
        own = [line for line in lines if line["stage"] == stage]
        last = [line for line in own if line["step"] == step]
        dropped = [line for line in own if line["step"] > step]
        dropped += last[len(last) if of_step is None else of_step :]
        gone = {id(line) for line in dropped}
        self._rewrite_if_changed([line for line in lines if id(line) not in gone])

    def enter(self) -> None:
        """Gives the lines so far their checksum: from now on they stay as they are."""
        if self._file is not None and self._entered is not None:
            self._entered.enter_log(self._path.name, self._path.read_bytes())

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _rewrite_if_changed(self, lines: list[dict[str, Any]]) -> None:
        text = b"".join(map(_encode, lines))
        if not self._path.exists() or self._path.read_bytes() != text:
            if self._entered is not None:
                # The old entry must not outlive the old lines, however short it is.
                self._entered.forget_log(self._path.name)
            write_atomically(self._path, text)
        # Without a buffer, that nothing is left over from what a full disk refused.
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        self.enter()

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the lines in order; a last line cut short by a kill is left out.

    Raises:
      UsageError: if the file has not been written.
      DamagedArtefact: if another line is not a metrics line.
    """
    if not Path(path).exists():
        raise UsageError(f"{path} has not been written: run a training stage first.")
    lines = []
    raw = Path(path).read_bytes().split(b"\n")
    # What follows the last line end was cut short, or is empty.
    for number, text in enumerate(raw[:-1], start=1):
        try:
            line = json_text.loads(text)
            lines.append({"stage": line["stage"], "step": line["step"], **line})
        except (ValueError, KeyError, TypeError):
            raise DamagedArtefact(
                f"{path} is damaged (line {number} is not a metrics line): "
                f"{LOG_REMEDY}."
            ) from None
    return lines


def _encode(line: dict[str, Any]) -> bytes:
    return json_text.dumps(line).encode() + b"\n"


def _summary_writer(folder: Path) -> Any:
    try:
        import tensorboardX  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            "tensorboard is True, which needs the package tensorboardX; install it "
            "with: pip install 'tensorboardX>=2.6'."
        ) from None
    return tensorboardX.SummaryWriter(str(folder))
