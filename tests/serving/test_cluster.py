"""A model on a cluster: every file once whoever dies, with a Ray of this test's own; slow: with Ray's own processes.

python -m pytest -n 0 -m slow tests/serving/test_cluster.py             # 1,200 images
KERASALL_CLUSTER_IMAGES=20000 python -m pytest -n 0 -m slow tests/serving/test_cluster.py
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import psutil
import pytest
from command_line import invoke
from ray_nodes import Nodes
from test_batch import LABELS, export_tiny, write_images

from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.errors import KerasallError, ModelError, SettingsError
from kerasall.preprocessing.operations import Chain
from kerasall.serving import cluster
from kerasall.serving.cluster import AHEAD, BATCHES, Scoring, on_cluster
from kerasall.serving.export import export_saved_model

IMAGES = int(os.environ.get("KERASALL_CLUSTER_IMAGES", "1200"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("cluster") / "tiny" / "1")


class Died(Exception):
    """As Ray's RayError."""


class Task(Died):
    """As Ray's RayTaskError."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class FakeRay:
    """Processes of a cluster that die by chance, and with every file called ``deadly``; as Ray, out of order."""

    exceptions = SimpleNamespace(RayError=Died, RayTaskError=Task)

    def __init__(self, seed: int, deaths: float, load_error: Exception | None = None) -> None:
        self._chance, self._deaths, self._load_error = random.Random(seed), deaths, load_error
        self._numbers, self._done, self._alive = itertools.count(), {}, {}
        self.most_waiting = 0

    def remote(self, **options):
        assert options == {"num_cpus": 1, "max_restarts": -1, "max_task_retries": 0}
        return lambda made: SimpleNamespace(remote=self._make)

    def _make(self, scoring, digest):
        actor, life = next(self._numbers), itertools.count()
        self._alive[actor] = next(life)

        def load():
            if self._load_error:
                return Task(self._load_error)
            return {"path": str, "label": str, "error": str}

        def answer(names):
            if "deadly" in names or self._chance.random() < self._deaths:
                self._alive[actor] = next(life)  # what else it was asked dies with it
                return Died()
            return [{"path": name, "label": "x", "error": ""} for name in names]

        def call(function):
            def ask(*arguments):
                reference = next(self._numbers)
                self._done[reference] = actor, self._alive[actor], function, arguments
                self.most_waiting = max(self.most_waiting, len(self._done))
                return reference

            return SimpleNamespace(remote=ask)

        return _Hashable(load=call(load), answer=call(answer))

    def wait(self, references, timeout):
        assert references, "nothing is awaited: this would hang"
        return [self._chance.choice(list(references))], []

    def get(self, reference):
        actor, life, function, arguments = self._done.pop(reference)
        found = function(*arguments) if self._alive[actor] == life else Died()
        if isinstance(found, Exception):
            raise found
        return found

    def cluster_resources(self):
        return {"CPU": 3.0}


class _Hashable(SimpleNamespace):
    __hash__ = object.__hash__


def answering(monkeypatch, saved, ray, batch_size=2):
    from contextlib import contextmanager

    @contextmanager
    def joined(address, count):
        yield ray

    monkeypatch.setattr(cluster, "joined", joined)
    scoring = Scoring(saved, Path(), batch_size, None, None)
    return on_cluster(scoring, "nowhere", None, lambda sentence: None)


@pytest.mark.parametrize("seed", range(20))
def test_every_file_has_one_row_whoever_dies(saved, monkeypatch, seed):
    ray, names = FakeRay(seed, deaths=0.15), [f"{number}.png" for number in range(997)]
    taken = []

    def walked():
        for name in names:
            taken.append(name)
            # No more than there is room for, and what was asked of the dead.
            assert len(taken) - len(found) <= (2 * 3 * AHEAD + 1) * BATCHES * 2
            yield name

    with answering(monkeypatch, saved, ray) as model:
        found: list[str] = []
        for rows in model.ask(walked()):
            found += (row["path"] for row in rows)
        assert Counter(found) == Counter(names)
        assert ray.most_waiting <= 3 * (2 * AHEAD + 1)
        assert [row["path"] for row in model.in_order(names[5:9])] == names[5:9]
        assert list(model.ask([])) == []


def test_a_file_that_every_process_dies_with_has_a_row_that_says_so(saved, monkeypatch):
    names = [f"{number}.png" for number in range(60)]
    names[17] = "deadly"
    with answering(monkeypatch, saved, FakeRay(0, deaths=0.0)) as model:
        rows = [row for rows in model.ask(names) for row in rows]
    assert Counter(row["path"] for row in rows) == Counter(names)
    (bad,) = (row for row in rows if row["error"])
    assert (bad["path"], bad["label"]) == ("deadly", "")
    assert "3 processes that read it died" in bad["error"]
    assert bad.keys() == model.columns.keys()


def test_a_model_that_cannot_be_loaded_there_is_said_once(saved, monkeypatch):
    with (
        pytest.raises(ModelError, match="is another on host"),
        answering(monkeypatch, saved, FakeRay(0, 0.0, ModelError("is another on host"))),
    ):
        pass


def test_processes_that_always_die_end_the_command(saved, monkeypatch):
    with answering(monkeypatch, saved, FakeRay(0, deaths=1.0)) as model:
        rows = [row for rows in model.ask(["a.png"]) for row in rows]
        assert "processes that read it died" in rows[0]["error"]
        with pytest.raises(KerasallError, match="must stay alive"):
            list(model.ask(f"{number}.png" for number in range(100)))


def test_reports_of_usage_are_off_before_ray_is_imported(tmp_path):
    """And a cluster of this machine's own is told to listen on loopback and to ask for a token."""
    (tmp_path / "ray" / "_private").mkdir(parents=True)
    (tmp_path / "ray" / "_private" / "services.py").write_text("start_api_server = None")
    (tmp_path / "ray" / "__init__.py").write_text(
        "import os\n"
        "print({name: value for name, value in os.environ.items() if name.startswith('RAY_')})\n"
        "def init(**options): print(options)\n"
        "def shutdown(): pass\n"
    )
    (tmp_path / "ray" / "exceptions.py").write_text("RayError = OSError\n")
    script = "import sys\nfrom kerasall.ray_cluster import joined\nwith joined(sys.argv[1], 2): pass"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "RAY_USAGE_STATS_ENABLED": "1"}
    environment["RAY_ADDRESS"] = "local"  # which Ray takes for a cluster of its own without a token
    said = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        head = f"127.0.0.1:{listening.getsockname()[1]}"
        for address in ("auto", head):
            command = [sys.executable, "-c", script, address]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            said[address] = [eval(line) for line in done.stdout.splitlines()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert f"a cluster must answer at {head}, but joining it failed" in done.stderr
    own, options = said["auto"]
    assert own["RAY_USAGE_STATS_ENABLED"] == "0"
    assert own["RAY_AUTH_MODE"] == "token"
    assert len(own["RAY_AUTH_TOKEN"]) == 64
    assert (options["address"], options["_node_ip_address"], options["num_cpus"]) == ("local", "127.0.0.1", 2)
    assert not options["include_dashboard"]
    other, options = said[head]
    assert other == {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    assert options["address"] == head


@pytest.mark.parametrize(
    "address",
    ["", "local", "AUTO", "ray://127.0.0.1:10001", "127.0.0.1", "host:0", "host:99999", "a b:1", "h:1\n"],
)
@pytest.mark.parametrize("command", ["predict", "tune"])
def test_another_kind_of_address_is_refused(command, address):
    with pytest.raises(SettingsError, match="must be auto, for this machine's own cores, or HOST:PORT"):
        invoke(command, "nothing", "--cluster", address)


def command(saved: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "kerasall", "predict", str(saved), *map(str, arguments)]


def predict(saved: Path, *arguments: object, status: int, **options) -> str:
    done = subprocess.run(command(saved, *arguments), capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == status, done.stderr
    return done.stderr


def read_table(out: Path) -> list[dict[str, str]]:
    """Rows of a CSV file or of the parts of one, by their paths."""
    from kerasall.csv_tables import csv_rows

    rows = []
    for part in sorted(out.glob("part-*")) if out.is_dir() else [out]:
        with part.open(encoding="utf-8", newline="") as file:
            header, *lines = csv_rows(file)
            rows += (dict(zip(header, line, strict=True)) for line in lines)
    return sorted(rows, key=lambda row: row["path"])


def require_same(rows: list[dict], expected: list[dict]) -> None:
    for column in ("path", "label", "error"):
        assert [row[column] for row in rows] == [row[column] for row in expected]
    numbers = (
        [[float(row[label] or "nan") for label in LABELS] for row in each] for each in (rows, expected)
    )
    np.testing.assert_allclose(*numbers, atol=1e-6)


@pytest.mark.slow
def test_this_machines_own_cluster_answers_as_the_command_alone_and_speaks_to_nobody_else(saved, tmp_path):
    pytest.importorskip("ray", reason="the extra ray is absent: pip install -c constraints.txt -e '.[ray]'")
    images = tmp_path / "images"
    write_images(images, [f"{number:03d}.png" for number in range(60)] + ['a, "quoted".png', "a\nbreak.png"])
    (images / "broken.png").write_bytes(b"nothing")
    with open(os.fsencode(images) + b"/caf\xe9.png", "wb") as file:
        file.write((images / "001.png").read_bytes())
    predict(saved, "images", "--out", "local.csv", status=1, cwd=tmp_path)
    watched, spoken = watch_speech(tmp_path)
    options = {"env": os.environ | watched, "cwd": tmp_path}
    words = command(
        saved, "images", "--out", "scores.csv", "--cluster", "auto", "--workers", 2, "--batch-size", 2
    )
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, **options)
    listening = watch_sockets(process)
    assert "64 files, 1 failed" in process.communicate()[1]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert not spoken.exists(), spoken.read_text()
    require_same(read_table(tmp_path / "scores.csv"), read_table(tmp_path / "local.csv"))
    (images / "broken.png").write_bytes((images / "002.png").read_bytes())
    told = predict(saved, "images", "--out", "scores.csv", status=0, cwd=tmp_path)  # without the cluster
    assert "64 files, 63 of them passed over, 1 that failed before tried again, 0 failed" in told


def watch_speech(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which every Python may speak to this machine alone; whom else it would have is noted in a file."""
    spoken = folder / "spoken"
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import socket, sys\n"
        "own = {'localhost', '::1', '0.0.0.0', '::', socket.gethostname()}\n"
        f"own |= {own_addresses()!r}\n"
        "def watch(event, arguments):\n"
        "    if event not in ('socket.connect', 'socket.getaddrinfo'):\n"
        "        return\n"
        "    to = arguments[1] if event == 'socket.connect' else arguments\n"
        "    if isinstance(to, tuple) and isinstance(to[0], str) and to[0] not in own and to[0][:4] != '127.':\n"
        f"        open({str(spoken)!r}, 'a').write(f'{{sys.argv}} {{event}} {{to}}\\n')\n"
        "        raise OSError('blocked')\n"
        "sys.addaudithook(watch)\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])}, spoken


def own_addresses() -> set[str]:
    return {each.address for found in psutil.net_if_addrs().values() for each in found}


def watch_sockets(process: subprocess.Popen) -> set[str]:
    """Addresses at which a process and all that it starts listen, until it ends."""
    found: set[str] = set()
    while process.poll() is None:
        try:
            tree = psutil.Process(process.pid)
            for each in (tree, *tree.children(recursive=True)):
                found |= {s.laddr.ip for s in each.net_connections("tcp") if s.status == psutil.CONN_LISTEN}
        except psutil.Error:
            pass
        time.sleep(0.1)
    return found


def rendered(folder: Path, count: int) -> Path:
    """So many PNGs of synthetic cells of 32 pixels, and one that is broken."""
    render_cells(folder / "cells", SyntheticSettings(subjects_per_class=10, images_per_subject=10, size=32))
    sources = sorted((folder / "cells").glob("*/*.bmp"))
    encoded = [cv2.imencode(".png", cv2.imread(str(path)))[1].tobytes() for path in sources]
    assert len(encoded) > 100
    images = folder / "images"
    images.mkdir()
    for number in range(count - 1):
        (images / f"{number:06d}.png").write_bytes(encoded[number % len(encoded)])
    (images / "broken.png").write_bytes(b"nothing")
    return images


def export_slow(folder: Path, side: int) -> Path:
    """A SavedModel that has so much to do that a run outlasts the start of a worker."""
    keras.utils.set_random_seed(1)
    image = keras.Input((side, side, 3), name="image")
    layers = keras.layers.Rescaling(1 / 32)(image)
    for _ in range(3):
        layers = keras.layers.Conv2D(32, 3, activation="relu")(layers)
    pooled = keras.layers.GlobalAveragePooling2D()(layers)
    model = keras.Model(image, keras.layers.Dense(2, "softmax")(pooled))
    return export_saved_model(
        model, Chain.from_json([{"op": "resize", "height": side, "width": side}]), LABELS, folder
    )


def wait_for(condition, process: subprocess.Popen, seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_cluster_of_two_workers_of_which_one_is_killed_and_one_added_and_a_killed_driver(tmp_path):
    pytest.importorskip("ray", reason="the extra ray is absent: pip install -c constraints.txt -e '.[ray]'")
    saved = export_slow(tmp_path / "slow" / "1", side=192 if IMAGES < 5_000 else 64)
    images, out = rendered(tmp_path, IMAGES), tmp_path / "scores.csv"
    predict(saved, images, "--out", tmp_path / "local.csv", status=1)
    expected = read_table(tmp_path / "local.csv")
    assert len(expected) == IMAGES
    part_rows = max(20, IMAGES // 40)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short:
        watched, spoken = watch_speech(Path(short))
        nodes = Nodes(Path(short), watched)
        try:
            nodes.start_worker("first")
            nodes.start_worker("second")
            words = [
                images,
                "--out",
                out,
                "--cluster",
                nodes.address,
                "--part-rows",
                part_rows,
                "--batch-size",
                8,
            ]
            run = {"env": nodes.environment}
            stranger = nodes.environment | {"RAY_AUTH_TOKEN": "0" * 64}
            assert "give its token" in predict(saved, *words, status=1, env=stranger)
            assert not out.exists()

            def parts() -> int:
                return len(list(out.glob("part-*")))

            with open(tmp_path / "first.log", "wb") as log:
                driver = subprocess.Popen(command(saved, *words), stderr=log, start_new_session=True, **run)
                wait_for(lambda: parts() >= 5, driver)
                nodes.kill("second")
                seen = parts()
                wait_for(lambda: parts() >= seen + 3, driver)  # the other one goes on
                nodes.start_worker("third")
                seen = parts()
                wait_for(lambda: parts() >= min(seen + 5, 25), driver)
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
            kept = read_table(out)
            assert 8 * part_rows <= len(kept) < IMAGES
            driver = subprocess.Popen(command(saved, *words), stderr=subprocess.PIPE, text=True, **run)
            own, begun, memory = psutil.Process(driver.pid), parts(), []
            while driver.poll() is None:
                try:
                    used = {name: nodes.memory(name) for name in ("first", "third")}
                    used["driver"] = own.memory_info().rss
                except psutil.NoSuchProcess:
                    break
                memory.append((parts(), used))
                time.sleep(0.5)
            told = driver.communicate()[1]
            assert not spoken.exists(), spoken.read_text()
        finally:
            nodes.end()
    assert driver.returncode == 1, told
    again = 1 if any(row["error"] for row in kept) else 0
    passed = f"{IMAGES:,} files, {len(kept) - again:,} of them passed over"
    assert passed.replace(",", "") in told.replace(",", ""), told
    require_same(read_table(out), expected)
    # While all answer: from the first part that was added to the one before the last.
    seen = [used for at, used in memory if begun < at < parts()]
    third = len(seen) // 3
    for name in ("first", "third", "driver") if third else ():
        start, end = (np.mean([used[name] for used in some]) for some in (seen[:third], seen[-third:]))
        print(f"{name}: {start / 1e6:.0f} MB in the first third, {end / 1e6:.0f} MB in the last")
        assert end < 1.1 * start, (name, start, end)
