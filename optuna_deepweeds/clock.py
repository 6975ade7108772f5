"""The time that durations are counted by, which nobody sets while a process runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

# It goes on while the machine sleeps; other systems than Linux have none that does.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_SINCE = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(_STEADY))


def now() -> datetime:
    """The time in UTC, by the machine's clock as it was when this process started."""
    return _SINCE + timedelta(seconds=time.clock_gettime(_STEADY))
