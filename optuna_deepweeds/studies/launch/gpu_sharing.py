"""Several worker processes on one GPU at the same time, through NVIDIA's Multi-Process Service.

Without the service, a GPU gives its processes turns: kernels of different processes never run
side by side, and small networks leave most of a GPU idle. With it, eight workers trained 3 to 5
times as many epochs a second as one; without it, two workers 1.05 times as many (H100,
`bench training --workers N`).

Source: NVIDIA, "Multi-Process Service", chapters 2 (when to use it) and 5 (its programs).
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optuna_deepweeds.processes import dying_with_parent

logger = logging.getLogger(__name__)

_SWITCH = "DEEPWEEDS_MPS"
_CONTROL = "nvidia-cuda-mps-control"
_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_DEFAULT_PIPES = Path("/tmp/nvidia-mps")
_DRIVER = Path("/dev/nvidiactl")
_PROBE = """
import ctypes, sys
driver, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
sys.exit(bool(driver.cuInit(0) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)))
"""
"""Fails where a process cannot use the GPU. A service may start and not work, as on GPUs that do
not support it; the workers would then see no GPU and train on the CPU."""
_START_SECONDS = 5.0
_PROBE_SECONDS = 30.0
_STOP_SECONDS = 20.0


@contextmanager
def shared_gpu(n_workers: int, device: str | None = None) -> Iterator[dict[str, str]]:
    """Start the service for the time of a launch and stop it afterwards.

    Args:
        n_workers: Processes to be started; a single one needs no service.
        device: Their device, as for `training.train`.

    Yields:
        What to add to the workers' environment. Empty where there is nothing to do: no NVIDIA
        GPU, a service that runs already, DEEPWEEDS_MPS=0, or one that does not work, which is
        logged; the workers then take turns.
    """
    program = shutil.which(_CONTROL)
    if n_workers < 2 or device == "cpu" or not _DRIVER.exists() or _is_settled():
        yield {}
        return
    if program is None:
        logger.info("the workers take turns on the GPU, as there is no program %s.", _CONTROL)
        yield {}
        return
    # A folder of our own: nobody else's service is joined or stopped.
    with tempfile.TemporaryDirectory(prefix="deepweeds-mps-") as folder:
        environment = {_PIPES: folder, _LOGS: folder}
        # Clients name devices as the service sees them: it must see all, as they do.
        full = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | environment
        service = subprocess.Popen(
            [program, "-f"],
            env=full,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the workers, which need it to the end.
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )
        try:
            if _is_up(service, Path(folder)) and _works(full):
                logger.info("the workers share the GPU through NVIDIA's MPS.")
                yield environment
            else:
                logger.warning("The workers take turns on the GPU, as MPS does not work.")
                _stop(service, program, full)
                yield {}
        finally:
            _stop(service, program, full)


def _is_settled() -> bool:
    """True if the user runs a service already or wants none."""
    runs = _PIPES in os.environ or (_DEFAULT_PIPES / "control").exists()
    return runs or os.environ.get(_SWITCH) == "0"


def _is_up(service: subprocess.Popen[bytes], folder: Path) -> bool:
    give_up_at = time.monotonic() + _START_SECONDS
    while service.poll() is None and time.monotonic() < give_up_at:
        if (folder / "control").exists():
            return True
        time.sleep(0.05)
    return False


def _works(environment: dict[str, str]) -> bool:
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _stop(service: subprocess.Popen[bytes], program: str, environment: dict[str, str]) -> None:
    """Ask the service to quit, with the server that it started; then insist."""
    with suppress(OSError, subprocess.TimeoutExpired):
        if service.poll() is None:
            subprocess.run(
                [program],
                input=b"quit\n",
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_STOP_SECONDS,
            )
    with suppress(subprocess.TimeoutExpired):
        service.wait(_START_SECONDS)
    if service.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
        service.wait()
