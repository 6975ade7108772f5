"""Starting and stopping MPS; a script stands in for NVIDIA's program, which needs a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optuna_deepweeds.studies.launch import gpu_sharing
from optuna_deepweeds.studies.launch.gpu_sharing import shared_gpu

PIPES = "CUDA_MPS_PIPE_DIRECTORY"
_PROGRAM = """#!/bin/sh
if [ "$1" = -f ]; then
    echo "devices ${CUDA_VISIBLE_DEVICES-all}" >> "$LOG"
    touch "$CUDA_MPS_PIPE_DIRECTORY/control"
    while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/over" ]; do sleep 0.05; done
else
    read command
    echo "$command" >> "$LOG"
    touch "$CUDA_MPS_PIPE_DIRECTORY/over"
fi
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU and NVIDIA's program; what the program does is noted in this file."""
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(gpu_sharing, "_DRIVER", tmp_path)
    monkeypatch.setattr(gpu_sharing, "_PROBE", "")
    monkeypatch.setattr(gpu_sharing, "_DEFAULT_PIPES", tmp_path / "none")
    return tmp_path / "log"


def test_runs_while_the_workers_do(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(KeyError), shared_gpu(2) as environment:
        folder = Path(environment[PIPES])
        assert (folder / "control").exists()
        assert log.read_text() == "devices all\n"
        raise KeyError  # It also ends where the workers fail.
    assert log.read_text() == "devices all\nquit\n"
    assert not folder.exists()


# Workers, their device, a variable that the user has set.
NEEDLESS = [(1, None, "X"), (4, "cpu", "X"), (4, None, PIPES), (4, None, "DEEPWEEDS_MPS")]


@pytest.mark.parametrize(("n_workers", "device", "variable"), NEEDLESS)
def test_starts_nothing_without_need_or_against_the_users_wish(
    log: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int, device: str | None, variable: str
) -> None:
    monkeypatch.setenv(variable, "0")
    with shared_gpu(n_workers, device) as environment:
        assert environment == {}
    assert not log.exists()


# Why: the program, the probe, what is logged, what the program did.
USELESS = {
    "not installed": (None, "", "take turns", None),
    "does not start": ("#!/bin/sh\nexit 1\n", "", "MPS does not work", None),
    "does not work": (_PROGRAM, "raise SystemExit(1)", "MPS does not work", "devices all\nquit\n"),
}


@pytest.mark.parametrize("why", USELESS)
def test_workers_take_turns_where_it_is_of_no_use(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    program, probe, told, done = USELESS[why]
    monkeypatch.setattr(gpu_sharing, "_PROBE", probe)
    path = log.with_name("nvidia-cuda-mps-control")
    path.write_text(program) if program else path.unlink()
    with caplog.at_level(logging.INFO), shared_gpu(4) as environment:
        assert environment == {}
    assert told in caplog.text
    assert (log.read_text() if log.exists() else None) == done


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU.")
def test_the_probe_fails_without_a_gpu() -> None:
    assert not gpu_sharing._works(dict(os.environ))


def test_ends_with_its_launcher(log: Path, tmp_path: Path) -> None:
    """A launcher that is killed leaves no service behind."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from optuna_deepweeds.studies.launch import gpu_sharing\n"
        f"gpu_sharing._DRIVER, gpu_sharing._PROBE = Path({str(tmp_path)!r}), ''\n"
        "with gpu_sharing.shared_gpu(2) as environment:\n"
        "    print(environment['CUDA_MPS_PIPE_DIRECTORY'], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        folder = launcher.stdout.readline().strip()
        assert _processes(folder)
        launcher.kill()
    give_up_at = time.monotonic() + 10
    while _processes(folder) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert not _processes(folder)


def _processes(folder: str) -> list[str]:
    """Processes that have `folder` in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"CUDA_MPS_PIPE_DIRECTORY={folder}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
