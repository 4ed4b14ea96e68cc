"""Several generators at once: order, bounds, errors, and nothing left behind."""

import threading
import time
from contextlib import closing

import pytest

from core.chains.parallel import ROOM, interleave


class Works:
    """Generators that count who is running."""

    def __init__(self, length=5, delay_s=0.0):
        self.running = self.peak = self.made = self.ended = 0
        self.length, self.delay_s, self.guard = length, delay_s, threading.Lock()

    def one(self, number, fails=False):
        with self.guard:
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            for step in range(self.length):
                time.sleep(self.delay_s)
                with self.guard:
                    self.made += 1
                if fails and step == 1:
                    raise ValueError("broken")
                yield number * 100 + step
        finally:
            with self.guard:
                self.running -= 1
                self.ended += 1


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_all_items_come_each_makers_in_order_and_never_more_at_once_than_allowed(limit):
    works = Works(delay_s=0.001)
    found = list(interleave([lambda n=n: works.one(n) for n in range(12)], limit=limit))
    for number in range(12):
        assert [item for maker, item in found if maker == number] == [number * 100 + step for step in range(5)]
    assert works.peak <= limit and works.running == 0 and works.ended == 12
    assert limit == 1 or works.peak > 1


@pytest.mark.parametrize("limit", [1, 4])
def test_leaving_closes_every_generator_and_ends_every_thread_before_it_is_over(limit):
    before = threading.active_count()
    for _ in range(50):
        works = Works(length=1000)
        with closing(interleave([lambda n=n, works=works: works.one(n) for n in range(9)], limit=limit)) as items:
            next(items)
        assert works.running == 0
        made = works.made
        time.sleep(0.001)
        assert works.made == made
    assert threading.active_count() == before


def test_the_first_error_is_raised_and_the_others_are_closed():
    works = Works(length=1000)
    with pytest.raises(ValueError, match="broken"):
        list(interleave([lambda n=n: works.one(n, fails=n == 2) for n in range(5)], limit=3))
    assert works.running == 0


def test_a_reader_that_does_not_read_makes_no_more_than_the_queue_holds():
    works = Works(length=1000)
    with closing(interleave([lambda n=n: works.one(n) for n in range(4)], limit=4)) as items:
        next(items)
        time.sleep(0.1)
        assert works.made <= ROOM + 4 + 4
