"""The time that goes into sampling is counted once."""

import threading
import time

import pytest
import torch

from qattn._clock import SamplingClock

CPU = torch.device("cpu")


def test_a_block_within_a_block_is_part_of_it():
    clock = SamplingClock()
    start = time.perf_counter()
    for _ in range(2):
        with clock.running(CPU):
            time.sleep(0.02)
            with clock.running(CPU):
                time.sleep(0.05)
    whole = time.perf_counter() - start
    counted = clock.take()
    assert 0.14 <= counted <= whole
    assert clock.take() == 0


def test_another_thread_that_samples_for_this_one_is_not_counted_too():
    clock = SamplingClock()

    def emulated():
        with clock.running(CPU):
            time.sleep(0.1)

    start = time.perf_counter()
    with clock.running(CPU):
        thread = threading.Thread(target=emulated)
        thread.start()
        thread.join()
    assert 0.1 <= clock.take() <= time.perf_counter() - start


def test_an_error_ends_the_block():
    clock = SamplingClock()
    with pytest.raises(ValueError, match="inside"), clock.running(CPU), clock.running(CPU):
        raise ValueError("inside")
    clock.take()
    with clock.running(CPU):
        time.sleep(0.02)
    assert clock.take() >= 0.02
