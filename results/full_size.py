"""Four papers' systems on a rendered C-NMC of the whole size, each killed once: what a person with the images may expect.

    python -m results.full_size --folder DIR

Renders 10,661 training and 1,867 preliminary cells of 450 px (7.1 GiB) in the layout of the archive: its folders, the counts
of every published subject id, names of the published form, the preliminary part numbered, with the label table beside it, its
files with the longer header that the published ones have. Ids that are one patient share cells, as they do there. Then the
shipped configs of four papers run on it with networks that two cores can train, and random weights, by the command that a
person would give; each is killed (SIGKILL) in its longest step, and the same command given again. Pixels, folds, split,
augmentation and schedules are the configs' own but for what ``SYSTEMS`` states.

Reading, comparing, storing and scoring have as many images to do as in the real set, of the same size in bytes and pixels; what
rendered cells look like may still make their copies easier or harder to find. The scores say nothing about leukaemia. Broken off and given again, the command goes on with the systems that had not ended; the folder is emptied at the end.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
import yaml

from kerasall.csv_tables import write_csv
from kerasall.data.cell_drawing import draw_image
from kerasall.data.cnmc import LABEL_TABLE, LABELS, PRELIMINARY
from kerasall.data.cnmc_subjects import JOINED_IDS
from kerasall.errors import KerasallError
from kerasall.files import atomic_path, read_object, require_room, write_json, write_text
from kerasall.runtime import show_progress
from kerasall.shown_text import show, tell
from results.pages.full_size import section
from results.provenance import write_study

HERE = Path(__file__).parent
SIDE, DRAWN = 450, 225
"""Pixels of a file's side, and of what is drawn: twice as large it takes a quarter of the time."""
NEEDED_BYTES = 14 << 30
"""Disk: images 7.1 GiB, stored pixels and activations of the four runs the rest."""

SUBJECTS = {
    ("fold_0", "all"): "1:19 3:11 4:113 5:112 11:92 14:99 15:58 17:74 19:9 20:76 22:103 26:142 28:92 35:155 43:73 45:253 48:268 50:246 52:402",
    ("fold_0", "hem"): "H6:18 H7:18 H11:47 H12:185 H15:162 H16:69 H17:119 H19:108 H24:404",
    ("fold_1", "all"): "2:84 16:53 23:97 30:201 32:212 33:181 34:352 38:145 44:146 46:190 51:757",
    ("fold_1", "hem"): "H10:405 H14:385 H22:373",
    ("fold_2", "all"): "13:89 18:74 21:80 24:161 25:178 27:178 31:111 36:35 37:197 47:278 49:197 67:267 68:250 72:14 74:31 75:99 78:218",
    ("fold_2", "hem"): "H1:32 H2:112 h3:36 H4:9 H5:28 H8:20 H9:46 H13:137 H18:30 H20:100 H23:327 H40:140 H46:29 H48:50",
    (PRELIMINARY, "all"): "53:201 54:111 55:47 57:262 58:96 59:12 60:18 61:7 62:10 63:83 64:69 65:139 66:164",
    (PRELIMINARY, "hem"): "H25:19 H26:25 H27:13 H28:9 H29:38 H30:35 H31:77 H32:54 H33:5 H34:20 H35:31 H36:47 H39:84 H49:162 H50:29",
}  # fmt: skip
"""Published part and class -> subject ids, as they are spelt, with the number of their images."""


# --- the images ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One file to write.

    Attributes:
        name: that the set gives the cell.
        file: below the set's folder.
        shows: number of class, subject and image that ``draw_image`` draws.
        again: how: "" a cell of its own; "identical" to or "near" another's, whose ``shows`` it has.
    """

    name: str
    file: str
    shows: tuple[int, int, int]
    again: str = ""


def plan_cells() -> list[Cell]:
    """Every file of the set, training folds first."""
    shown, cells, numbered = _share_cells(), [], 0
    for (part, label), stated in SUBJECTS.items():
        for subject, number in _read_counts(stated):
            for each in range(number):
                name = f"UID_{subject}_{each // 4 + 1}_{each % 4 + 1}_{label}.bmp"
                file = f"C-NMC_training_data/{part}/{label}/{name}"
                if part == PRELIMINARY:
                    numbered += 1
                    file = f"C-NMC_test_prelim_phase_data/{numbered}.bmp"
                cells.append(Cell(name, file, *shown[subject.upper(), each]))
    return cells


def _read_counts(stated: str) -> Iterator[tuple[str, int]]:
    for each in stated.split():
        subject, _, number = each.partition(":")
        yield subject, int(number)


def _share_cells() -> dict[tuple[str, int], tuple[tuple[int, int, int], str]]:
    """Subject and number of image -> what it shows, and how: of two ids that are one patient the last images of one are cells of the other.

    As many as are known to be shared (groups), each of another cell, as far as the smaller id has images left.
    """
    counts = {
        subject.upper(): (LABELS.index(label), member, number)
        for (_, label), stated in SUBJECTS.items()
        for member, (subject, number) in enumerate(_read_counts(stated))
    }
    places = {subject: position for position, subject in enumerate(counts)}
    shown = {
        (subject, each): ((index, places[subject], each), "")
        for subject, (index, _, number) in counts.items()
        for each in range(number)
    }
    given, taken = dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
    for pair in JOINED_IDS:
        giver, taker = sorted((pair.first, pair.second), key=lambda each: -counts[each][2])
        kinds = ["identical"] * pair.identical_groups + ["near"] * pair.near_duplicate_groups
        for kind in kinds:
            source, place = given[giver], counts[taker][2] - 1 - taken[taker]
            if source >= counts[giver][2] - taken[giver] or place < given[taker]:
                break
            shown[taker, place] = (shown[giver, source][0], kind)
            given[giver] += 1
            taken[taker] += 1
    return shown


def render_set(folder: Path, cells: list[Cell]) -> None:
    """Writes the set, unless it is there: whole or not at all."""
    if folder.is_dir():
        return
    with atomic_path(folder) as temporary:
        for parent in {str(Path(cell.file).parent) for cell in cells}:
            (temporary / parent).mkdir(parents=True)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            written = threads.map(partial(_write_cell, temporary), cells)
            for _ in show_progress(written, len(cells), "rendering cells"):
                pass
        rows = [
            {"Patient_ID": cell.name, "new_names": Path(cell.file).name, "labels": int("_all." in cell.name)}
            for cell in cells
            if "prelim" in cell.file
        ]
        write_csv(pd.DataFrame(rows), temporary / LABEL_TABLE)


def _write_cell(folder: Path, cell: Cell) -> None:
    pixels = cv2.resize(draw_image("cnmc", 0, cell.shows, DRAWN), (SIDE, SIDE))
    if cell.again == "near":  # cut out again, under another light
        pixels = cv2.convertScaleAbs(np.roll(pixels, (3, -2), (0, 1)), alpha=1.03)
    (folder / cell.file).write_bytes(encode_bmp(pixels, longer="prelim" in cell.file))


def encode_bmp(pixels: np.ndarray, longer: bool = False) -> bytes:
    """A 24-bit BMP as the training part has them, or with the header of 124 bytes that files of the preliminary part have.

    Args:
        pixels: RGB uint8 [H, W, 3].
        longer: whether the header is the longer one.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, (width * 3 + 3) // 4 * 4), np.uint8)
    rows[:, : width * 3] = pixels[::-1, :, ::-1].reshape(height, -1)
    size = 124 if longer else 40
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, 24, 0, rows.size, 2835, 2835, 0, 0)
    if longer:  # masks, which 24 bits do not use, and sRGB
        head += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0) + b"BGRs" + bytes(64)
    start = 14 + size
    return struct.pack("<2sIHHI", b"BM", start + rows.size, 0, 0, start) + head + rows.tobytes()


# --- the systems --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """One paper's system as it is run here.

    Attributes:
        config: the shipped config that is extended.
        command: of kerasall.
        killed_in: the step that is killed.
        says: what is smaller, or otherwise.
        settings: the same as settings.
    """

    config: str
    command: str
    killed_in: str
    says: str
    settings: Mapping[str, Any]


_TINY = {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"}
_CROP = {"op": "center_crop", "height": SIDE, "width": SIDE}


def _resize(side: int) -> dict[str, Any]:
    return {"op": "resize", "height": side, "width": side}


SYSTEMS = {
    "full_000": System(
        "taguchi_resnet101_vote", "tune", "Tuner",
        "nine runs of the array, one each, and three confirmations, of 1 or 2 epochs, of a quarter-width MobileNet at 32 px",
        {
            "preprocess": [_CROP, _resize(32)],
            "model": _TINY,
            "tune": {
                "repeats": 1, "confirmations": 3,
                "factors": {
                    "train.stages.0.epochs": [1, 2, 1],
                    "train.stages.0.optimizer.learning_rate": [1e-2, 1e-3, 1e-4],
                }
            },
        },
    ),
    "full_001": System(
        "weighted_ensemble", "run", "Trainer at_48",
        "a quarter-width MobileNet of one epoch at 32 px, one of two at 48 px, and the head alone, of one epoch, on one that sees the "
        "config's 300 px, in place of five members; weighed by F1, as of so short a training a kappa may be 0",
        {
            "ensemble": {"rule": "weighted_average", "weights": "f1"},
            "members": [
                {"name": "at_32", "model": _TINY, "steps": [_resize(32)], "epochs": {"fine_tune": 1}},
                {"name": "at_48", "model": _TINY, "steps": [_resize(48)]},
                {
                    "name": "at_300", "model": _TINY,
                    "train": {
                        "batch_size": 8, "oversample": "majority",
                        "stages": [{"name": "head", "trainable": "head", "epochs": 1}],
                    },
                },
            ],
            "train": {
                "stages": [
                    {
                        "name": "fine_tune", "trainable": "all", "train_batch_norm": True, "epochs": 2,
                        "optimizer": {"name": "adamax", "learning_rate": 0.002},
                        "schedule": {"name": "triangular2", "minimum": 1e-7, "step_size_epochs": 1},
                    }
                ]
            },
        },
    ),
    "full_003": System(
        "deep_features_svm", "run", "FeatureTrainer",
        "images of 224 px are stored as in the config; VGG16 and VGG19 see their middle at 32 px; one network and the pair x three classifiers",
        {
            "deep_features": {
                "extractors": [
                    {
                        "name": name, "backbone": name, "weights": "random",
                        "steps": [{"op": "center_crop", "height": 150, "width": 150}, _resize(32)],
                    }
                    for name in ("vgg16", "vgg19")
                ],
                "combinations": [["vgg16"], ["vgg16", "vgg19"]],
                "classifiers": ["knn", "linear_svm", "random_forest"],
            }
        },
    ),
    "full_004": System(
        "optimizer_sweep", "run", "SweepTrainer",
        "VGG16 and ResNet50 at 32 px, two optimizers, eight numbers of epochs from 1 to 8",
        {
            "preprocess": [_resize(32)],
            "sweep": {
                "backbones": [{"name": name, "backbone": name, "weights": "random"} for name in ("vgg16", "resnet50")],
                "epochs": [1, 2, 3, 4, 5, 6, 7, 8],
            },
            "train": {
                "stages": [
                    {
                        "name": "head", "trainable": "head", "epochs": 8,
                        "schedule": {"name": "exponential_decay", "rate": 0.95, "decay_steps": 900, "staircase": False},
                    }
                ]
            },
        },
    ),
}  # fmt: skip
"""Name of the run -> the system; the digits are those that stand before the paper's title here."""


@dataclass
class Watched:
    """What was seen of a command and all processes below it.

    Attributes:
        seconds: of every try, killed ones too.
        peak_bytes: most resident bytes at one moment, pages of files among them, which the system takes back when it must.
        peak_own_bytes: most of those without pages of files.
        loads: of the machine, at every look.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    peak_own_bytes: int = 0
    loads: list[float] = field(default_factory=list)

    def look(self, process: psutil.Process) -> None:
        """Notes down the memory of this moment."""
        self.loads.append(os.getloadavg()[0])
        found = []
        for each in [process, *process.children(recursive=True)]:
            try:
                found.append(each.memory_info())
            except psutil.Error:  # it has ended meanwhile
                continue
        self.peak_bytes = max(self.peak_bytes, sum(each.rss for each in found))
        self.peak_own_bytes = max(
            self.peak_own_bytes, sum(each.rss - getattr(each, "shared", 0) for each in found)
        )


def write_config(path: Path, system: System) -> None:
    """Writes the config of a system: the shipped one, and what is smaller."""
    write_text(
        path,
        yaml.safe_dump({"extends": system.config, "deterministic": True, **system.settings}, sort_keys=False),
    )


def run_system(name: str, system: System, data: Path, folder: Path) -> dict[str, Any]:
    """Runs a system to its end, killed once on the way; what it took.

    Args:
        name: of the run.
        system: what to run.
        data: folder of the images.
        folder: of configs, runs and logs.

    Raises:
        KerasallError: it failed, or ended before it could be killed.
    """
    config, runs, watched = folder / f"{name}.yaml", folder / "runs", Watched()
    begun_before, processor = (runs / name).exists(), _count_processor()
    write_config(config, system)
    command = [sys.executable, "-m", "kerasall", system.command, str(config), "--data", str(data)]
    environment = os.environ | {
        "KERASALL_RUNS": str(runs), "KERASALL_SAVEDMODELS": str(folder / "savedmodels"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    record = runs / name / "run.json"
    with open(folder / f"{name}.log", "wb") as log:
        start = partial(
            subprocess.Popen, command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        _watch(start(), watched, record, system.killed_in)
        if _watch(start(), watched, record):
            raise KerasallError(f"kerasall {system.command} {config} failed: {log.name} says why")
    steps = {step["step"]: step["state"] for step in read_object(record)["steps"]}
    report = read_object(runs / name / "report.json")["results"]
    return {
        "config": system.config, "command": system.command, "says": system.says, "killed_in": system.killed_in,
        "found_again": [step for step, state in steps.items() if state == "cached"],
        "scored": report["scored"], "images": report["images"], "metrics": report["metrics"],
        "begun_before": begun_before, "seconds_of_tries": watched.seconds,
        "seconds_of_processor": _count_processor() - processor, "load": float(np.mean(watched.loads)),
        "bytes_peak": watched.peak_bytes, "bytes_peak_own": watched.peak_own_bytes,
    }  # fmt: skip


AFTER = 20
"""Seconds into its step after which a run is killed."""


def _watch(started: subprocess.Popen, watched: Watched, record: Path, killed_in: str = "") -> int:
    """Follows a command to its end, or kills it in a step; its exit status."""
    process, begun, inside = psutil.Process(started.pid), time.monotonic(), 0.0
    while started.poll() is None:
        watched.look(process)
        time.sleep(0.1)
        if killed_in and not inside and _find_step(record) == killed_in:
            inside = time.monotonic()
        if inside and time.monotonic() - inside > AFTER:
            os.killpg(started.pid, signal.SIGKILL)
            break
    status = started.wait()
    watched.seconds.append(time.monotonic() - begun)
    if killed_in and status != -signal.SIGKILL:
        raise KerasallError(
            f"{record.parent.name} was to be killed in {killed_in}, but ended with status {status} before"
        )
    return status


def _count_processor() -> float:
    """Seconds of one core that all ended processes below this one have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _find_step(record: Path) -> str:
    return (read_object(record)["at"] or {}).get("step", "") if record.is_file() else ""


def main() -> None:
    """Writes full_size.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="of images and runs, emptied at the end; 14 GiB are needed there",
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the result")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="which; default all"
    )
    parser.add_argument("--keep", action="store_true", help="keep the images, for the next time")
    given = parser.parse_args()
    folder = given.folder.absolute()
    data, cells = folder / "PKG - C-NMC 2019", plan_cells()
    if not data.is_dir():
        require_room(folder, NEEDED_BYTES, "the rendered images and the runs")
    render_set(data, cells)
    document = {
        "command": "python -m results.full_size --folder DIR",
        "images": {"training": sum("training" in cell.file for cell in cells), "preliminary": sum("prelim" in cell.file for cell in cells)},
        "systems": {name: _run_once(name, data, folder) for name in given.systems},
        "bytes_images": _measure(data), "bytes_runs": _measure(folder / "runs"),
    }  # fmt: skip

    write_study(given.out / "full_size.json", "full_size", document)
    show(*section(read_object(given.out / "full_size.json")))
    for path in folder.iterdir():
        if path == data and given.keep:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _run_once(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """What a system took, now or before this command was broken off."""
    file = folder / f"{name}.json"
    if not file.is_file():
        tell(f"{name}: {SYSTEMS[name].config}; its words go to {folder / name}.log")
        write_json(file, run_system(name, SYSTEMS[name], data, folder))
    return read_object(file)


def _measure(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
