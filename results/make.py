"""Makes the rows of RESULTS.md: `make results`, or

    python -m results.make [ROW ...] --cnmc PATH --aria PATH --weights DIR [--list] [--check [N]] [--again]

Each row runs as a command of its own; when it ends its numbers and predictions are written at once. A row whose inputs
are unchanged is skipped, one that fails says why and the others go on. Killed and started again, the same command goes
on where it was. Runs lie in KERASALL_RUNS, by default `runs`.

--check runs N rows again, drawn at random (or those named), in a new folder of runs, and compares: deterministic ones
to the digit, others by the spread over seeds that the row states.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.errors import KerasallError, SettingsError, count_of, did_you_mean
from kerasall.files import explain_os_error, read_object
from kerasall.paths import runs_folder, weights_folder
from kerasall.report.format import align_rows
from kerasall.shown_text import show, tell, tell_fault
from kerasall.studies.finished_run import Run
from results.finished import keep_run, keep_study, renew_words
from results.inputs import agree, find_lacking, read_inputs
from results.page import write_pages
from results.reproduction import reproduce
from results.rows import DATA, FOLDER, Places, Row, read_rows

STOPPED = 130
"""Exit status of what was stopped."""

DONE, CHANGED, LACKING, MISSING = "done", "inputs changed", "lacks", "not made"


@dataclass(frozen=True)
class State:
    """How a row stands: one of the words above, and what is lacking."""

    word: str
    lacking: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word} {', '.join(self.lacking)}".strip()


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    arguments = _parse(words)
    try:
        sys.exit(run(arguments))
    except KerasallError as error:
        tell_fault(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        tell("stopped; the same command goes on from what is stored")
        sys.exit(STOPPED)


def run(arguments: argparse.Namespace) -> int:
    """Does what the command line asks for; returns the exit status."""
    places = Places(
        runs_folder(),
        arguments.folder.absolute(),
        weights=weights_folder(arguments.weights),
        **{name: _find_data(getattr(arguments, name)) for name in DATA},
    )
    rows = read_rows(places.folder)
    for name in arguments.rows:
        if name not in rows:
            raise SettingsError(
                f"a row must be one of {', '.join(rows)}, but {name!r} is none: {did_you_mean(name, rows)}"
            )
    chosen = [rows[name] for name in arguments.rows] or list(rows.values())
    if arguments.list:
        list_rows(chosen, places)
        return 0
    if arguments.check:
        return check_rows(chosen, 0 if arguments.rows else int(arguments.check), places, arguments.seed)
    return make_rows(chosen, places, arguments.again)


def list_rows(rows: Sequence[Row], places: Places) -> None:
    """Prints how every row stands."""
    lines = [("row", "command", "data", "minutes", "state")]
    lines += [
        (r.name, r.command, " ".join(r.needs) or r.data, str(r.minutes), _describe_state(r, places))
        for r in rows
    ]
    show(*align_rows(lines, (False, False, False, True, False)))


def _describe_state(row: Row, places: Places) -> str:
    try:
        return str(find_state(row, places))
    except KerasallError as error:
        return f"broken: {error}"


def find_state(row: Row, places: Places) -> State:
    """How a row stands, as far as its data and weights are at hand."""
    inputs = read_inputs(row, places)
    lacking, file = tuple(find_lacking(inputs)), places.result(row.name)
    if not file.is_file():
        return State(LACKING, lacking) if lacking else State(MISSING)
    if not agree(read_object(file).get("inputs"), inputs):
        return State(f"{CHANGED}; {LACKING}", lacking) if lacking else State(CHANGED)
    return State(f"{DONE}; not compared:", lacking) if lacking else State(DONE)


def make_rows(rows: Sequence[Row], places: Places, again: bool) -> int:
    """Makes rows one after another, those whose inputs are unchanged excepted; returns the exit status."""
    failed = []
    for number, row in enumerate(rows, start=1):
        prefix = f"[{number}/{len(rows)}] {row.name}"
        try:
            tell(f"{prefix}: {bring_up_to_date(row, places, again, prefix)}")
        except (KerasallError, OSError) as error:
            failed.append(row.name)
            said = explain_os_error(error) if isinstance(error, OSError) else error
            tell_fault(f"{prefix}: failed: {said}")
    for page in write_pages(places.folder):
        tell(f"written: {page}")
    if failed:
        tell(f"not made: {', '.join(failed)}")
    return 1 if failed else 0


def bring_up_to_date(row: Row, places: Places, again: bool, prefix: str) -> str:
    """Makes a row where its inputs are not those of its result; returns what was done, in words.

    Raises:
        KerasallError: it failed, or lacks what it needs.
    """
    state = find_state(row, places)
    if state.word.startswith(DONE) and not (again and state.word == DONE):
        return f"{state}{'; its words renewed' if renew_words(row, places) else ''}"
    if state.lacking:
        raise SettingsError(
            f"it lacks {', '.join(state.lacking)}: see --cnmc, --aria, --labels and --weights"
        )
    tell(f"{prefix}: some {count_of(row.minutes, 'minute')}")
    begun = time.monotonic()
    make_row(row, places, places.folder)
    return f"written after {(time.monotonic() - begun) / 60:.1f} min: {places.result(row.name)}"


def make_row(row: Row, places: Places, folder: Path) -> dict[str, Any]:
    """Runs one row, or goes on with it, and writes what it gave.

    Args:
        row: whose inputs are at hand.
        places: where they lie, and its runs.
        folder: to write into.

    Raises:
        KerasallError: it failed; the message says why.
    """
    environment = os.environ | {"KERASALL_RUNS": str(places.runs)}
    environment.setdefault("KERASALL_SAVEDMODELS", str(places.runs / "savedmodels"))
    source = str(FOLDER.parent)  # the package beside these rows, whatever else is installed
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    module = f"results.{row.name}" if row.is_study else "kerasall"
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    status = _call([sys.executable, "-m", module, *find_arguments(row, places, folder)], environment)
    run = Run(places.runs / row.name)
    if status:
        said = "its last lines above say why" if row.is_study else _find_error(run, begun)
        raise KerasallError(f"python -m {module} ended with status {status}: {said}")
    return keep_study(row, places, folder) if row.is_study else keep_run(row, run, places, folder)


def _find_error(run: Run, begun: float) -> str:
    """Why a run failed that began then; one that was refused at the door has no record of it."""
    record = {} if run.record_fault else run.record
    said = record.get("error") if (record.get("finished") or 0) >= begun else None
    return said or "its last lines above say why"


def find_arguments(row: Row, places: Places, folder: Path) -> list[str]:
    """What the command of a row is given on this machine.

    Args:
        row: whose inputs are at hand.
        places: where they lie.
        folder: that a study writes into.
    """
    if row.is_study:
        found = {name.upper(): str(places.find(name)) for name in row.needs}
        found |= {"RUNS": str(places.runs), "WEIGHTS": str(places.weights or "")}
        words = [
            re.sub(r"^[A-Z]+", lambda word: found.get(word[0], word[0]), each)
            for each in row.arguments.split()
        ]
        return [*words, "--out", str(folder)]
    words = [row.command, str(places.config(row)), "--name", row.name]
    words += ["--repeats", str(row.repeats)] if row.repeats > 1 else []
    words += [word for name in row.needs for word in ("--data", str(places.find(name)))]
    return words + (["--weights", str(places.weights)] if places.weights else [])


def check_rows(rows: Sequence[Row], count: int, places: Places, seed: int | None) -> int:
    """Makes rows again in a new folder of runs and prints the verdicts; returns the exit status.

    Args:
        rows: to draw from.
        count: how many are drawn; 0 for all.
        places: of the kept results.
        seed: of the draw; None for another one each time.
    """
    ready = [row for row in rows if find_state(row, places) == State(DONE)]
    passed_over = [row.name for row in rows if row not in ready]
    if count:
        ready = random.Random(seed).sample(ready, min(count, len(ready)))
    elif passed_over:
        raise SettingsError(
            f"a row must be made, its inputs unchanged and at hand, but is not: {', '.join(passed_over)}"
        )
    if not ready:
        raise SettingsError("there is no row to check whose inputs are unchanged and at hand: see --list")
    tell(f"checked: {', '.join(row.name for row in ready)}")
    os.environ.pop("KERASALL_SAVEDMODELS", None)  # a check pushes nothing among the models that are kept
    verdicts = [reproduce(row, places, make_row) for row in ready]
    show(*map(str, verdicts))
    return 0 if all(verdict.same for verdict in verdicts) else 1


def _call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Exit status of a command that shows what it does, and that does not outlive this process where it is stopped.

    All it shows goes to standard error: standard output is for the states and verdicts of rows.
    """
    with subprocess.Popen(command, env=environment, stdout=2) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # of a terminal, which stops both
            process.wait()
            raise
        except SystemExit:
            process.terminate()
            process.wait()
            raise
    if status == STOPPED:
        raise KeyboardInterrupt
    return status


def _end(*_: object) -> None:
    """SIGTERM, which reaches this process alone."""
    sys.exit(STOPPED)


def _find_data(given: Path | None) -> Path | None:
    if given is not None and not given.expanduser().exists():
        raise SettingsError(f"{given} must exist, but does not: correct --cnmc, --aria or --labels")
    return given and given.expanduser().absolute()


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m results.make",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which; default all")
    parser.add_argument("--cnmc", type=Path, help="folder of C-NMC images")
    parser.add_argument(
        "--aria", type=Path, help="folder that holds Original and Segmented of the four-class set"
    )
    parser.add_argument("--labels", type=Path, help="C-NMC's table of labels of the preliminary part")
    parser.add_argument("--weights", help="folder of pretrained weights; default KERASALL_WEIGHTS")
    parser.add_argument("--list", action="store_true", help="print how every row stands")
    parser.add_argument(
        "--check", nargs="?", const="1", metavar="N", help="make N rows, or those named, again and compare"
    )
    parser.add_argument("--seed", type=int, help="of the draw of --check")
    parser.add_argument("--again", action="store_true", help="also rows whose inputs are unchanged")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="of rows, configs and results; default this one"
    )
    found = parser.parse_intermixed_args(words)
    if found.check and not found.check.isdecimal():  # --check ROW
        found.rows, found.check = [found.check, *found.rows], "1"
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main()
