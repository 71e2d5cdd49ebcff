"""The keras-tuner oracle that runs an orthogonal array, every raw response in a trial of its own, and its service.

It remembers nothing that is not in the project folder: which trial comes next follows from the design and
the trials that exist. A search may be killed at any moment and started again; nothing is lost, doubled or
reordered.

keras-tuner 1.4 itself averages a trial's second report with the first, accepts a second end, hands out
retried trials last first, and keeps its lock when a method raises; that is why the methods that create,
update and end trials are its own here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from kerasall.errors import KerasallError, SettingsError
from kerasall.taguchi.stored_oracle import StoredOracle
from kerasall.taguchi.trials import FINISHED, SECONDS, Place, find_guilty_levels, read_levels, read_place

_IDLE_SECONDS = 0.05
_PAUSE_SECONDS = 0.2
_LINGER_SECONDS = 3.0


class TaguchiOracle(StoredOracle):
    """Runs the rows of an orthogonal array, for any ``keras_tuner.Tuner``.

    Example:
        >>> def build(hp):
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.get("units"), hp.get("activation"))])
        ...     model.add(keras.layers.Dense(1))
        ...     model.compile(keras.optimizers.SGD(hp.get("rate")), "mse")
        ...     return model
        >>> factors = {"units": [2, 4], "activation": ["relu", "tanh"], "rate": [0.01, 0.1]}
        >>> oracle = kerasall.TaguchiOracle("val_loss", factors, repeats=1)
        >>> oracle.design.plan.array, len(oracle.design.places(0))  # eight combinations, of which it runs four
        ('L4(2^3)', 4)
        >>> x, y = np.ones((8, 3)), np.ones((8, 1))
        >>> tuner = keras_tuner.Tuner(oracle=oracle, hypermodel=build, directory="trials", project_name="demo")
        >>> tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
        >>> sorted(oracle.analyze().best_levels)
        ['activation', 'rate', 'units']

    Factors are ordinary ``hp.Choice`` hyperparameters; what else a hypermodel asks for keeps its default.
    ``trial.hyperparameters.values`` also holds ``taguchi/row`` (from 1, or "confirmation"),
    ``taguchi/repeat`` and ``taguchi/fold`` (from 1), ``taguchi/seed`` (the trial's own) and
    ``taguchi/levels`` (level numbers in the order of the factors, which tell a dummy level from its twin);
    with noise also ``taguchi/noise`` (run of the outer array, from 1).

    ``noise`` is what can be set in the experiment but not in use: the seed, the data, the scanner. Every row is run under
    every combination of its levels, each in a trial of its own; the hypermodel reads them as it reads factors, and the
    ratio over the noise runs of a row tells how good it stays.

    Args:
        objective: name of a metric, or ``keras_tuner.Objective``.
        factors: name -> its levels; numbers, texts or booleans. Equal levels are dummy levels.
        array: name of an array, or ``auto`` for the smallest that fits.
        repeats: runs of every row.
        folds: every repeat is run once for each of so many held-out folds; None for once.
        seed: not negative; every trial gets a seed of its own from it.
        confirmations: runs at the predicted optimum, after all others. They may be raised later, not lowered.
        signal: ratio to maximise, see ``signal_to_noise.SIGNALS``; None takes ``larger`` or ``smaller``
            by the objective's direction.
        error_df: degrees of freedom that the array must leave for the error.
        max_retries_per_trial: how often a failed trial is run again.
        max_consecutive_failed_trials: the search stops after so many in a row, each at its first run, in rows that have
            no level in common; where they have one, that level is named and the search goes on.
        retry_failed: run once more what had failed for good, after all others, once the search is started anew.
        interactions: pairs of factors, ``A*B``, that get columns of their own and enter the analysis.
        without: factor -> levels whose rows are neither run nor analysed. They may be named later, once they
            turn out to fail.
        noise: noise factor -> its levels, all different; none of its names is a factor's.
        noise_array: name of an orthogonal array of the noise in place of all combinations, or ``auto``.
        analysis: options of ``kerasall.taguchi.analysis.analyze`` by which the optimum is predicted, such as
            ``levels_as`` and ``pool``.

    Raises:
        SettingsError: a setting is not usable, or no array fits. Also when a search goes on in a folder
            whose experiment was another: the message lists the differences.
    """

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial for a tuner; a copy, of which ``end_trial`` takes back status and message.

        A tuner that asks while its trial is unfinished, as one does that was restarted, gets it again.
        """
        with self._lock:
            try:
                trial = self._next_trial(tuner_id)
            except KerasallError as error:
                if not is_chief():
                    raise
                # An exception would reach one worker only, and leave the chief waiting for ever.
                self.halted = str(error)
                trial = self._no_trial(tuner_id)
            trial = Trial.from_state(trial.get_state())
        if trial.status == TrialStatus.IDLE:
            time.sleep(_IDLE_SECONDS)  # keras-tuner asks again at once
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Takes a trial's metrics. A second report of a step replaces the first; ended trials keep theirs."""
        with self._lock:
            self._load()
            trial = self._known(trial_id)
            if trial.status in FINISHED:
                self._refuse(trial, "metrics")
            else:
                self._check_objective_found(metrics)
                for name, value in metrics.items():
                    self._record(trial, name, float(value), step)
                self._save_trial(trial)
            return Trial.from_state(trial.get_state())

    def end_trial(self, trial: Trial) -> None:
        """Ends a trial or sends it for retry. A second end of one trial is refused and changes nothing.

        Raises:
            SettingsError: the trial is unknown, not over, or reported no objective.
            KerasallError: too many trials failed in a row; all of them are stored.
        """
        with self._lock:
            self._load()
            known = self._known(trial.trial_id)
            if known.status in FINISHED:
                self._refuse(known, "end")
                return
            if trial.status not in (*FINISHED, TrialStatus.INVALID):
                raise SettingsError(
                    f"an ended trial must be COMPLETED, INVALID or FAILED, but {trial.trial_id} is {trial.status}"
                )
            if trial.status == TrialStatus.COMPLETED and not known.metrics.exists(self.objective.name):
                raise SettingsError(
                    f"a completed trial must report {self.objective.name}, but {trial.trial_id} did not"
                )
            self._judge(known, trial)
            if known.status in FINISHED:
                self.end_order.append(known.trial_id)
            new_failure = self._count_failure(known)
            for tuner_id in [i for i, own in self.ongoing_trials.items() if own is known]:
                del self.ongoing_trials[tuner_id]
            self._save_trial(known)
            self.save()
            self._display.on_trial_end(known)
            if new_failure:
                self._check_consecutive_failures()

    def update_space(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """Learns of hyperparameters that are no factors; they keep their defaults in every trial."""
        with self._lock:
            known = {hp.name for hp in self.hyperparameters.space}
            super().update_space(hyperparameters)
            for hp in self.hyperparameters.space:
                if hp.name not in known:
                    known.add(hp.name)
                    self._display.write(
                        f"{hp.name} is no factor: every trial takes its default, {hp.default!r}"
                    )

    @property
    def all_handed_out(self) -> bool:
        """Whether no further trial will be started: all are finished or running, or the search has stopped."""
        with self._lock:
            self._load()
            running = {trial.trial_id for trial in self.ongoing_trials.values()}
            waiting = [n for n in self._planned if not self._is_finished(n) and _name(n) not in running]
            return not waiting or bool(self.halted)

    def _next_trial(self, tuner_id: str) -> Trial:
        self._load()
        if not (self._folder / "oracle.json").exists():
            self.save()  # the design stands on disk before the first trial does
        self.tuner_ids.add(tuner_id)
        if tuner_id in self.ongoing_trials:
            return self._begin(int(self.ongoing_trials[tuner_id].trial_id), tuner_id)
        running = {trial.trial_id for trial in self.ongoing_trials.values()}
        free = [number for number in self._open_numbers() if _name(number) not in running]
        if not free or self.halted:
            return self._no_trial(tuner_id)
        guilty = find_guilty_levels(self.design, self._ordered_trials())
        return self._begin(min(free, key=lambda number: self._order(number, tuner_id, guilty)), tuner_id)

    def _order(
        self, number: int, tuner_id: str, guilty: Sequence[tuple[str, Any]]
    ) -> tuple[int, bool, bool, int]:
        """Its own broken-off trial first, then as planned; another tuner's late, it may still be running.

        What has failed before comes after what was never run, and of this last the rows at levels that always failed.
        """
        owner = next((tuner for tuner, trial in self._former.items() if trial == _name(number)), None)
        failed, row = self._run_times.get(_name(number), 0) > 0, self._places[number].row
        settings = {} if isinstance(row, str) else self.design.settings_of(self.design.levels_of(row))
        suspect = any(settings.get(name) == value for name, value in guilty)
        return (0 if owner == tuner_id else 1 if owner is None else 2), failed, suspect, number

    def _open_numbers(self) -> list[int]:
        """Numbers of the trials that may run now; the confirmation waits for all others."""
        runs = self.design.runs
        unfinished = [number for number in self._planned if not self._is_finished(number)]
        return [number for number in unfinished if number < runs] or unfinished

    def _is_finished(self, number: int) -> bool:
        return _name(number) in self.trials and self.trials[_name(number)].status in FINISHED

    def _no_trial(self, tuner_id: str) -> Trial:
        status = TrialStatus.STOPPED if self.all_handed_out else TrialStatus.IDLE
        if status == TrialStatus.STOPPED:
            self.tuner_ids.discard(tuner_id)
        return Trial(keras_tuner.HyperParameters(), trial_id="", status=status)

    def _begin(self, number: int, tuner_id: str) -> Trial:
        trial_id = _name(number)
        if trial_id not in self.trials:
            values = self.design.values_of(self._places[number], self._levels_of(self._places[number]))
            self.trials[trial_id] = Trial(self._complete(values), trial_id=trial_id)
            self.start_order.append(trial_id)
        trial = self.trials[trial_id]
        trial.status, trial.message, trial.score = TrialStatus.RUNNING, None, None
        trial.metrics = type(trial.metrics)()  # whatever a run reported that did not end does not count
        self.ongoing_trials[tuner_id] = trial
        self._former = {tuner: former for tuner, former in self._former.items() if former != trial_id}
        self._started[trial_id] = time.monotonic()
        self._save_trial(trial)
        self.save()
        self._display.on_trial_begin(trial)
        return trial

    def _levels_of(self, place: Place) -> dict[str, int]:
        if not isinstance(place.row, str):
            return self.design.levels_of(place.row)
        first = self.trials.get(_name(self.design.runs))
        if first is not None:
            return read_levels(first.hyperparameters.values, self.design.plan.factors)
        return self.analyze().best_levels

    def _complete(self, values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
        """Hyperparameters with these values, and the default for whatever is no factor."""
        made = self.hyperparameters.copy()
        made.values = dict(values)
        for hp in made.space:
            if hp.name not in made.values and made.is_active(hp):
                made.values[hp.name] = hp.default
        return made

    def _known(self, trial_id: str) -> Trial:
        if trial_id not in self.trials:
            raise SettingsError(f"a trial must be one that this oracle created, but {trial_id!r} is not")
        return self.trials[trial_id]

    def _refuse(self, trial: Trial, what: str) -> None:
        self._display.write(f"trial {trial.trial_id} is {trial.status} already: a second {what} is refused")

    def _record(self, trial: Trial, name: str, value: float, step: int) -> None:
        tracker, kept = trial.metrics, []
        if tracker.exists(name):
            kept = [seen for seen in tracker.get_history(name) if seen.step != step]
            del tracker.metrics[name]
        tracker.register(name, direction=self.objective.direction if name == self.objective.name else None)
        tracker.set_history(name, kept)
        tracker.metrics[name].update(value, step)  # the tracker's own update warns of a nan

    def _judge(self, known: Trial, reported: Trial) -> None:
        """Gives a trial its last status, score and seconds."""
        self.update_space(reported.hyperparameters)
        space = reported.hyperparameters.copy()
        space.values.update(known.hyperparameters.values)
        known.hyperparameters = space
        known.status, known.message = reported.status, reported.message
        if known.status == TrialStatus.COMPLETED:
            values = [seen.mean() for seen in known.metrics.get_history(self.objective.name)]
            if np.isfinite(values[-1]):  # whoever recovered from a step that was not finite has a response
                self.score_trial(known)
            else:
                known.status = TrialStatus.INVALID
                known.message = f"{self.objective.name} must be finite, but is {values[-1]}"
        self._run_times[known.trial_id] += 1
        exhausted = self._run_times[known.trial_id] > self.max_retries_per_trial
        if known.status == TrialStatus.INVALID and exhausted:
            known.status = TrialStatus.FAILED
        if known.trial_id in self._started:
            self._record(known, SECONDS, round(time.monotonic() - self._started.pop(known.trial_id), 3), 0)

    def _count_failure(self, trial: Trial) -> bool:
        """Remembers trials that failed at their first run, until one succeeds; a retry tells nothing new.

        Returns:
            Whether this one is such a trial.
        """
        if trial.status == TrialStatus.COMPLETED:
            self._failed_in_a_row = []
        elif self._run_times[trial.trial_id] == 1:
            self._failed_in_a_row.append(trial)
            return True
        return False

    def _check_consecutive_failures(self) -> None:
        failed = self._failed_in_a_row
        rows = {read_place(trial.hyperparameters.values).row for trial in failed}
        if len(rows) < self.max_consecutive_failed_trials:
            return
        shared = [
            f"{name} = {failed[0].hyperparameters.values[name]}"
            for name in self.design.plan.factors
            if len({trial.hyperparameters.values[name] for trial in failed}) == 1
        ]
        if shared:
            self._display.write(
                f"{len(failed)} trials in a row failed, all of them with {' and '.join(shared)}: the search goes on with "
                "the others; to do without that level, name it with `without` (kerasall tune --without)"
            )
            return
        message = failed[-1].message or "its message stayed with its worker"
        under = [
            f"{name} = {failed[0].hyperparameters.values[name]}"
            for name in self.design.noise_factors
            if len({trial.hyperparameters.values[name] for trial in failed}) == 1
        ]
        alike = f", all of them under the noise {' and '.join(under)}" if under else ""
        error = KerasallError(
            f"trials must succeed, but {len(failed)} in a row failed, in rows that have no level in common{alike}, the last with: "
            f"{message.strip()}\nCorrect the cause and search again; retry_failed=True runs the failed ones again too"
        )
        self._failed_in_a_row = []
        if not is_chief():
            raise error
        self.halted = str(error)


def _name(number: int) -> str:
    return f"{number:04d}"


def serve_oracle(
    oracle: TaguchiOracle, grace_seconds: float = 60.0, watch: Callable[[], None] | None = None
) -> None:
    """Answers workers at KERASTUNER_ORACLE_IP:KERASTUNER_ORACLE_PORT until the experiment is done.

    Takes the place of keras-tuner's server, which ends up to twenty seconds late, waits for ever for a worker
    that died after its last trial, and hangs when the oracle raises.

    A trial stays with its worker until that ends it: restart a dead worker under its own
    KERASTUNER_TUNER_ID. A worker that has no trial and is not heard of for ``grace_seconds`` is not waited for.

    Args:
        oracle: of the experiment.
        grace_seconds: how long a worker without a trial may be silent.
        watch: called several times a second; what it raises ends the service.

    Raises:
        SettingsError: the address cannot be served.
        KerasallError: the search was stopped, for example by trials that failed.
    """
    address = chief_address()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    servicer = _Servicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise SettingsError(f"the chief must be able to listen at {address}, but cannot: choose another port")
    server.start()
    try:
        while not servicer.is_over(grace_seconds):
            time.sleep(_PAUSE_SECONDS)
            if watch is not None:
                watch()
    finally:
        server.stop(grace=_LINGER_SECONDS).wait()
    if oracle.halted:
        raise KerasallError(oracle.halted)


class _Servicer(OracleServicer):
    """keras-tuner's servicer, which notes when a worker last asked for a trial or ended one."""

    def __init__(self, oracle: TaguchiOracle) -> None:
        super().__init__(oracle)
        self.last_request = time.monotonic()

    def CreateTrial(self, request: Any, context: Any) -> Any:
        self.last_request = time.monotonic()
        return super().CreateTrial(request, context)

    def EndTrial(self, request: Any, context: Any) -> Any:
        self.last_request = time.monotonic()
        return super().EndTrial(request, context)

    def is_over(self, grace_seconds: float) -> bool:
        """Whether no worker needs an answer any more."""
        if self.oracle.ongoing_trials or not self.oracle.all_handed_out:
            return False
        everyone_knows = self.stop_triggered and not self.oracle.tuner_ids
        return time.monotonic() - self.last_request > (_LINGER_SECONDS if everyone_knows else grace_seconds)


def wait_for_chief(timeout_seconds: float) -> None:
    """Waits until the chief answers, instead of the hour that keras-tuner waits.

    Raises:
        KerasallError: it does not.
    """
    address = chief_address()
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_seconds)
        except grpc.FutureTimeoutError:
            raise KerasallError(
                f"a chief must answer at {address}, but none did for {timeout_seconds:g} s: start it with "
                "KERASTUNER_TUNER_ID=chief, unless it has ended because every trial is done"
            ) from None


def is_chief() -> bool:
    """Whether this process hands the trials out to others, as keras-tuner's environment variables say."""
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")


def chief_address() -> str:
    """Where the chief listens, as keras-tuner's environment variables say."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
