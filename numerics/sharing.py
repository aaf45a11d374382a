"""Work handed out in parts to threads that wait for it, the caller being one of them.

A helper sleeps on a lock of its own: to wake it and to hear that it is done costs some 15 µs (with futures of a pool:
45). Helpers that are busy are not waited for: the caller does what they would have done. So calls may be nested, and
several threads may call at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Part = TypeVar("Part")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Task:
    """What a helper does, and whether it is done."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.do, self.finished = do, False
        self.done = threading.Lock()
        self.done.acquire()

    def wait(self) -> None:
        """Return when it is done; an interrupt is raised then, not before."""
        try:
            self.done.acquire()
        except BaseException:
            while not self.finished:
                time.sleep(1e-4)
            raise


class _Helper:
    """A thread that does one task after another, and is idle between them."""

    def __init__(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self._task: _Task | None = None
        threading.Thread(target=self._live, name="backproof-kernel", daemon=True).start()

    def begin(self, do: Callable[[], None]) -> _Task:
        """Start something that raises nothing."""
        task = self._task = _Task(do)
        self._wake.release()
        return task

    def _live(self) -> None:
        while True:
            self._wake.acquire()
            task, self._task = self._task, None
            assert task is not None
            task.do()
            _CREW.idle.append(self)
            task.finished = True
            task.done.release()
            del task  # it holds the caller's arrays


class _Crew:
    """The helpers of this process: one less than it has processors, made when they are first wanted."""

    def __init__(self) -> None:
        self.idle: list[_Helper] = []
        self.hired = 0
        self.lock = threading.Lock()

    def helpers(self, wanted: int) -> list[_Helper]:
        """At most so many idle ones."""
        with self.lock:
            try:
                while len(self.idle) < wanted and self.hired < processors() - 1:
                    self.idle.append(_Helper())
                    self.hired += 1
            except RuntimeError:  # the system gives no more threads: those there are must do
                pass
            return [self.idle.pop() for _ in range(min(wanted, len(self.idle)))]


_CREW = _Crew()


def _new_crew() -> None:
    global _CREW
    _CREW = _Crew()


if hasattr(os, "register_at_fork"):  # a child process does not have its parent's threads
    os.register_at_fork(after_in_child=_new_crew)


def shared(work: Callable[[Part], object], parts: Iterable[Part], threads: int) -> None:
    """``work`` on each part, taken in order by up to ``threads`` threads as they become free; by the caller's alone
    where fewer than two are asked for.

    Returns when all is done. An exception of ``work``, or an interrupt, is raised again when the parts already begun
    are done; no further one is begun.
    """
    if threads < 2:
        for part in parts:
            work(part)
        return
    waiting, lock = iter(parts), threading.Lock()
    failures: list[BaseException] = []

    stopped = False

    def take() -> None:
        while not stopped:
            with lock:
                try:
                    part = next(waiting)
                except StopIteration:
                    return
            work(part)

    def help_out() -> None:
        nonlocal stopped
        try:
            take()
        except BaseException as error:
            failures.append(error)
            stopped = True

    begun: list[_Task] = []
    try:
        begun.extend(helper.begin(help_out) for helper in _CREW.helpers(threads - 1))
        take()
    finally:
        stopped = True  # nothing is left, or an exception came
        for task in begun:
            task.wait()
    if failures:
        raise failures[0]


def guided(size: int, least: int, threads: int) -> Iterator[slice]:
    """Slices of 0 … ``size``, large ones first: two thirds of what would be each thread's part of the rest, but neither
    less than ``least`` nor than an eighth of its part of the whole, and no small one at the end.

    Few are handed out, and no thread has much left to do when the others are done.
    """
    start = 0
    while start < size:
        rest = size - start
        length = max(least, size // (8 * threads), 2 * rest // (3 * threads))
        length += -length % 64  # whole vectors
        if rest < length + length // 2:
            length = rest
        yield slice(start, start + length)
        start += length
