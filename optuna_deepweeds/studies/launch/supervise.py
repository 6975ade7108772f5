"""The loop over the workers of one launch, wherever they run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
_RESTART_PAUSE_SECONDS = 1.0
_TICK_SECONDS = 2.0


class Handle(Protocol):
    """One running worker."""

    def poll(self) -> int | None:
        """Its exit code, negative if it was killed or lost; None while it runs."""

    def terminate(self) -> None:
        """Ask it to put its trial back and end."""


@dataclass
class LaunchResult:
    """How the workers of one launch ended.

    Attributes:
        exit_codes: The last exit code of each worker; negative for a signal.
        restarts: How often workers were started again.
    """

    exit_codes: list[int]
    restarts: int

    @property
    def exit_code(self) -> int:
        """0 if any worker saw the study to its end, else what went wrong first."""
        if not self.exit_codes or 0 in self.exit_codes:
            return 0
        code = self.exit_codes[0]
        return 128 - code if code < 0 else code


@dataclass
class _Slot:
    """One of the workers, through its restarts; `code` is None while it runs or is to run."""

    handle: Handle
    code: int | None = None
    restarts: int = 0
    restart_at: float | None = None

    def look(self) -> bool:
        """Whether it runs."""
        self.code = self.handle.poll()
        return self.code is None


def supervise(
    start: Callable[[int], Handle],
    n_workers: int,
    should_stop: Callable[[], bool],
    on_tick: Callable[[], None],
    max_restarts: int,
    poll_seconds: float,
) -> LaunchResult:
    """Start workers and look after them until all of them ended.

    A crashed worker is started again, after a pause that grows. When `should_stop` turns true, or
    something is raised here, each worker is asked once to end; they are waited for. `on_tick` is
    called every two seconds.
    """
    slots: list[_Slot] = []
    told, tick_at = False, 0.0
    try:
        for i in range(n_workers):
            slots.append(_Slot(start(i)))
        while True:
            running = [slot for slot in slots if slot.look()]
            if not told and should_stop():
                told = True
                for slot in running:
                    slot.handle.terminate()
            if not told:
                for i, slot in enumerate(slots):
                    if _is_due(slot, max_restarts):
                        slot.handle = start(i)
                        running.append(slot)
            if time.monotonic() >= tick_at:
                on_tick()
                tick_at = time.monotonic() + _TICK_SECONDS
            if not running and (told or all(slot.restart_at is None for slot in slots)):
                break
            time.sleep(poll_seconds)
    except BaseException:
        running = [slot for slot in slots if slot.look()]
        for slot in running if not told else []:
            slot.handle.terminate()
        while any(slot.look() for slot in running):
            time.sleep(poll_seconds)
        raise
    codes = [slot.code for slot in slots if slot.code is not None]
    return LaunchResult(codes, sum(slot.restarts for slot in slots))


def _is_due(slot: _Slot, max_restarts: int) -> bool:
    """Whether to start a worker that ended again now: if that can help and its pause is over.

    It can help after a signal that nobody asked for (out of memory, a crash in a driver) and
    after losing the storage; once after an error, for a broken CUDA context heals with the
    process.
    """
    if slot.code is None:
        return False
    now = time.monotonic()
    if slot.restart_at is None:
        is_crash = slot.code < 0 or slot.code == 5
        if slot.restarts < (max_restarts if is_crash else min(slot.code == 1, max_restarts)):
            slot.restart_at = now + _RESTART_PAUSE_SECONDS * 2**slot.restarts
            how = f"signal {-slot.code}" if slot.code < 0 else f"exit code {slot.code}"
            logger.warning("a worker was lost (%s): it is started again, its trial goes on.", how)
    elif now >= slot.restart_at:
        slot.restart_at = None
        slot.restarts += 1
        return True
    return False
