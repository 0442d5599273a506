"""Processes that prepare batches: in order, the same as without them, and their errors are told."""

import os
import signal
import time

import numpy as np
import pytest

from featherpose.data.crew import HELD, PIECE, Crew

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
BATCH = PIECE + 3


def example(epoch, position):
    """What tells an example from every other."""
    return {"at": np.array([epoch, position], np.int64), "noise": np.random.default_rng([epoch, position]).random((3, 2))}


@pytest.fixture
def crew():
    made = []

    def make(function=example, **changes):
        made.append(Crew(function, **{"batch": BATCH, "count": 2, **changes}))
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert not any(process.is_alive() for process in one.processes)


def test_batches_come_in_order_with_all_their_examples(crew):
    firsts = [BATCH * number for number in range(20)]
    for number, batch in enumerate(crew().batches(3, firsts)):
        wanted = [example(3, firsts[number] + i) for i in range(BATCH)]
        for name, value in batch.items():
            assert np.array_equal(value, np.stack([one[name] for one in wanted])), (number, name)
    assert number == 19


def test_what_was_handed_out_stays_until_later_batches_are_asked_for(crew):
    batches = crew(ahead=1).batches(0, [BATCH * number for number in range(12)])
    held = []
    for batch in batches:
        held = [*held, (batch, {name: value.copy() for name, value in batch.items()})][-HELD:]
        time.sleep(0.02)  # time for the processes to write where they may
        for now, before in held:
            assert all(np.array_equal(now[name], before[name]) for name in now)


def test_a_second_epoch_and_one_left_early_do_not_mix(crew):
    one = crew()
    first = one.batches(0, [BATCH * number for number in range(9)])
    next(first)
    first.close()
    for number, batch in enumerate(one.batches(1, [0, BATCH])):
        assert batch["at"].tolist() == [[1, BATCH * number + i] for i in range(BATCH)]


def broken(epoch, position):
    if position == 40:
        raise OSError("photos/7.jpg: there is no such photo")
    if position == 200:
        raise ZeroDivisionError
    return example(epoch, position)


def test_errors_reach_whoever_waits(crew):
    one = crew(broken)
    with pytest.raises(ValueError, match=r"photos/7\.jpg: there is no such photo"):
        list(one.batches(0, [0, BATCH, 2 * BATCH]))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(one.batches(0, [195]))
    assert next(one.batches(0, [100]))["at"][0].tolist() == [0, 100]  # and it goes on


def uneven(epoch, position):
    return {"at": np.zeros(2 + (position == 30), np.int64), "noise": np.zeros((3, 2))}


def test_examples_of_another_shape_are_refused(crew):
    with pytest.raises(RuntimeError, match="example 30 has other arrays than the first"):
        list(crew(uneven).batches(0, [0, BATCH]))


def stuck(epoch, position):
    time.sleep(60 if position == 50 else 0)
    return example(epoch, position)


def test_a_process_that_dies_is_missed(crew):
    one = crew(stuck, count=1)
    batches = one.batches(0, [0, 40])
    next(batches)
    os.kill(one.processes[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with code -9"):
        next(batches)
