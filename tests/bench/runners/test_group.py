"""Several processes that end together, as threads: a wish to end travels with the next step, as with Horovod."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.options import TimingOptions
from bench.runners import member, timing
from bench.runners.member import Place
from bench.runners.timing import REASONS, Measurement
from bench.screen import Screen


class Exchange:
    """What workers sum up in a step."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=30)
        self.wishes = [''] * size


class Worker(timing.Group):
    def __init__(self, rank: int, exchange: Exchange) -> None:
        self._rank, self._exchange = rank, exchange
        self._wish = self._answer = ''
        self.steps = 0

    @property
    def leads(self) -> bool:
        return self._rank == 0

    def step(self) -> float:
        time.sleep(0.001)
        self.steps += 1
        self._exchange.wishes[self._rank] = self._wish
        self._exchange.barrier.wait()
        self._answer = max(self._exchange.wishes, key=REASONS.index)
        self._exchange.barrier.wait()
        return 1.0

    def meet(self) -> None:
        self._exchange.barrier.wait()

    def agree(self, wish: str) -> str:
        self._wish = wish
        return self._answer


def together(options: TimingOptions, stops: Sequence[Callable[[int], bool]]) -> tuple[list[Measurement], list[Worker]]:
    exchange = Exchange(len(stops))
    workers = [Worker(rank, exchange) for rank in range(len(stops))]
    found: dict[int, Measurement] = {}

    def work(rank: int) -> None:
        worker = workers[rank]
        found[rank] = timing.measure(
            worker.step, options, 4, Screen(silent=True), lambda: stops[rank](worker.steps), group=worker
        )

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(len(stops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), 'a worker waits for one that has ended'
    return [found[rank] for rank in range(len(stops))], workers


class Unlike(timing.Group):
    """One of several that do steps at their own pace, and hear what the leader says."""

    is_synchronous = False

    def __init__(self, rank: int, seconds: float, said: list[str], barrier: threading.Barrier, goes_on: bool) -> None:
        self._rank, self._seconds, self._said, self._barrier = rank, seconds, said, barrier
        self.goes_on = goes_on

    @property
    def leads(self) -> bool:
        return self._rank == 0

    def step(self) -> float:
        time.sleep(self._seconds)
        return 1.0

    def meet(self) -> None:
        if self.leads and self.goes_on:
            self._said[:] = ['num_batches']
        self._barrier.wait()

    def agree(self, wish: str) -> str:
        if self.leads and wish:
            self._said[:] = [wish]
        return self._said[0] if self._said else ''


def at_their_own_pace(paces: Sequence[float], *, goes_on: bool) -> list[Measurement]:
    said: list[str] = []
    # What was said is forgotten when all have come to a meeting.
    barrier = threading.Barrier(len(paces), action=said.clear, timeout=30)
    options = TimingOptions(num_batches=10, num_warmup_batches=3)
    found: dict[int, Measurement] = {}

    def work(rank: int) -> None:
        worker = Unlike(rank, paces[rank], said, barrier, goes_on)
        found[rank] = timing.measure(worker.step, options, 4, Screen(silent=True), never_now, group=worker)

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(len(paces))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return [found[rank] for rank in range(len(paces))]


def never(_steps: int) -> bool:
    return False


@pytest.mark.parametrize(
    ('options', 'end'),
    [
        (TimingOptions(num_batches=7, num_warmup_batches=2), 'num_batches'),
        (TimingOptions(num_batches=7), 'num_batches'),
        (TimingOptions(num_warmup_batches=0, max_seconds=0.3), 'max_seconds'),
        (TimingOptions(max_seconds=0.3), None),
    ],
)
def test_all_workers_do_the_same_steps_and_end_for_the_same_reason(options: TimingOptions, end: str | None) -> None:
    measured, workers = together(options, [never] * 3)
    assert len({(len(each.warmup_seconds), len(each.step_seconds), each.end) for each in measured}) == 1
    assert len({worker.steps for worker in workers}) == 1
    if end is not None:
        assert measured[0].end == end
    if options.num_batches is not None:
        assert len(measured[0].step_seconds) == options.num_batches
    assert {each.warmed_up for each in measured} == {measured[0].warmed_up}


@pytest.mark.parametrize('step', [0, 1, 3, 4, 5, 9])
def test_a_wish_of_one_worker_ends_all_at_the_same_step(step: int) -> None:
    options = TimingOptions(num_batches=10, num_warmup_batches=4)
    measured, workers = together(options, [never, lambda steps: steps >= step])
    assert len({(len(each.warmup_seconds), len(each.step_seconds), each.end) for each in measured}) == 1
    assert len({worker.steps for worker in workers}) == 1
    assert measured[0].end == 'interrupted'


def test_a_wish_at_the_last_step_keeps_nobody_waiting() -> None:
    options = TimingOptions(num_batches=5, num_warmup_batches=1)
    measured, _ = together(options, [never, lambda steps: steps >= 6])
    assert [each.end for each in measured] == ['num_batches'] * 2


@pytest.mark.parametrize('goes_on', [False, True])
def test_workers_at_their_own_pace_do_as_many_steps_and_not_as_long_as_the_leader(goes_on: bool) -> None:
    leader, fast, slow = at_their_own_pace([0.05, 0.01, 0.2], goes_on=goes_on)
    assert len(leader.step_seconds) == 10
    assert len(fast.step_seconds) > 20
    assert len(slow.step_seconds) < 6
    assert [each.end for each in (leader, fast, slow)] == ['num_batches'] * 3
    # As long, and the rest of a step.
    for each in (fast, slow):
        assert -0.2 < sum(each.step_seconds) - sum(leader.step_seconds) < 0.5
    # Where the leader's warm-up may wait for a part of theirs, they do not end before it.
    warmup = [len(each.warmup_seconds) for each in (leader, fast, slow)]
    assert warmup[0] == 3
    assert warmup[1] > 5 if goes_on else warmup == [3, 3, 3]


def test_an_end_that_cannot_be_agreed_on_loses_what_was_measured() -> None:
    class Lost(timing.Group):
        asked = 0

        def agree(self, wish: str) -> str:
            self.asked += 1
            if self.asked == 6:
                raise ConnectionError('worker 1 is gone')
            return wish

    # Asked before each of two steps of the warm-up, at their end, and after each measured step.
    options = TimingOptions(num_batches=9, num_warmup_batches=2)
    with pytest.raises(timing.StepFailedError) as failed:
        timing.measure(lambda: 0.0, options, 1, Screen(silent=True), never_now, group=Lost())
    assert isinstance(failed.value.__cause__, ConnectionError)
    assert len(failed.value.measurement.step_seconds) == 3


def test_the_last_step_ends_when_it_has_ended_everywhere() -> None:
    class Late(timing.Group):
        def meet(self) -> None:
            time.sleep(0.2)

    measured = timing.measure(
        lambda: 0.0, TimingOptions(num_batches=3, num_warmup_batches=0), 1, Screen(silent=True), never_now, group=Late()
    )
    assert measured.step_seconds[-1] >= 0.2
    assert sum(measured.step_seconds[:-1]) < 0.2


def never_now() -> bool:
    return False


def test_a_meeting_of_processes_does_not_wait_for_one_that_left(tmp_path: Path) -> None:
    come = threading.Thread(target=member.meet, args=(tmp_path, 0, 0, 3), daemon=True)
    come.start()
    member.put(tmp_path / 'met-0-1', '')
    come.join(0.2)
    assert come.is_alive(), 'the third has neither come nor left'
    member.leave(tmp_path, 2)
    come.join(10)
    assert not come.is_alive()


def test_marks_of_one_process_are_seen_by_another(tmp_path: Path) -> None:
    watching = member.Marks(tmp_path, 3, new=True)
    assert watching.read() == (0, False)
    progress = member.Progress(Place(tmp_path, 3, 4, 4, ()))
    step = progress.counting(lambda: 'result')
    assert [step(), step()] == ['result'] * 2
    assert watching.read() == (2, True)
    progress.rest()
    assert watching.read() == (2, False)


def test_an_independent_worker_tells_that_it_rests_before_it_waits_for_the_others(tmp_path: Path) -> None:
    from bench.runners.strategy import Independent

    watching, place = member.Marks(tmp_path, 0, new=True), Place(tmp_path, 0, 1, 1, ())
    progress = member.Progress(place)
    progress.counting(lambda: None)()
    assert watching.read() == (1, True)
    Independent(place, progress).meet()
    assert watching.read() == (1, False)
