"""Work handed out in parts: everything once, in any nesting; exceptions, interrupts and forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backproof.numerics import sharing
from backproof.numerics.sharing import guided, shared


@pytest.fixture(autouse=True)
def _four(monkeypatch):
    monkeypatch.setattr(sharing, "processors", lambda: 4)
    monkeypatch.setattr(sharing, "_CREW", sharing._Crew())


@given(st.integers(0, 10**7), st.integers(1, 10**5), st.integers(1, 64))
def test_slices_cover_everything_once(size, least, threads):
    slices = list(guided(size, least, threads))
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])][: len(slices)]
    assert not slices or slices[-1].stop == size
    lengths = [s.stop - s.start for s in slices]
    assert all(length >= least for length in lengths[:-1])
    assert all(length % 64 == 0 for length in lengths[:-1])
    assert all(length <= 1.5 * max(least, size / threads) + 96 for length in lengths)
    assert len(slices) <= 12 * threads + 1


@pytest.mark.parametrize("threads", [1, 2, 4, 100])
def test_each_part_is_done_once_by_several_threads(threads):
    seen, names = [], set()

    def work(part):
        time.sleep(1e-3)
        seen.append(part)
        names.add(threading.current_thread().name)

    shared(work, range(50), threads)
    assert sorted(seen) == list(range(50))
    assert (len(names) > 1) is (threads > 1)


def test_shares_of_shares_and_many_callers():
    seen = []

    def outer(part):
        shared(lambda inner: seen.append((part, inner)), range(5), 4)

    callers = [threading.Thread(target=lambda: shared(outer, range(20), 4)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert not any(caller.is_alive() for caller in callers)
    assert sorted(seen) == sorted([(p, q) for p in range(20) for q in range(5)] * 6)


@pytest.mark.parametrize("of_helper", [False, True])
def test_an_exception_is_raised_after_what_was_begun(of_helper):
    caller, begun, ended = threading.current_thread(), [], []

    def work(part):
        begun.append(part)
        if (threading.current_thread() is not caller) is of_helper:
            raise ZeroDivisionError
        time.sleep(0.01)
        ended.append(part)

    with pytest.raises(ZeroDivisionError):
        shared(work, range(1000), 2)
    count = len(begun)
    assert len(ended) == count - 1
    assert count < 20
    shared(lambda part: ended.append(part), range(3), 2)  # the helper is there again


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of another system")
@pytest.mark.parametrize("in_caller", [True, False])
def test_an_interrupt_is_heard_and_nothing_runs_on(in_caller):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    caller, running = threading.current_thread(), []

    def work(part):
        at_home = threading.current_thread() is caller
        if at_home is in_caller:
            running.append(part)
            time.sleep(0.3)
            running.pop()
        elif at_home:
            time.sleep(0.01)

    def strike():
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=strike).start()
    begun = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            shared(work, range(2 if not in_caller else 100), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 3
    assert not running or in_caller


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_process_has_helpers_of_its_own():
    program = (
        "import os, time, threading\n"
        "from backproof.numerics import sharing\n"
        "sharing.processors = lambda: 2\n"
        "def run():\n"
        "    names = set()\n"
        "    sharing.shared(lambda p: (time.sleep(0.002), names.add(threading.get_ident())), range(20), 2)\n"
        "    return len(names)\n"
        "assert run() == 2\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(run())\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_more_threads_the_caller_does_it_all(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    seen = []
    shared(seen.append, range(10), 4)
    assert seen == list(range(10))
