"""Workers as processes: stopped together, restarted when they crash, given devices and the URL."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from optuna_deepweeds.studies.launch import LaunchResult, WorkerCommand, launch, worker_program
from optuna_deepweeds.studies.launch.local import visible_devices

# A worker in miniature: appends its environment to a file, then does what it is told.
_WORKER = """
import os, signal, sys, time
with open(sys.argv[1], "a") as file:
    print(os.environ["OPTUNA_STORAGE"], os.environ.get("CUDA_VISIBLE_DEVICES"), file=file)
action = sys.argv[2]
if action == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with open(sys.argv[1] + ".ready", "a") as file:
        print("ready", file=file)
    time.sleep(60)
elif action.startswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
else:
    sys.exit(int(action))
"""
_PROGRAM = (sys.executable, "-c", _WORKER)


def _launch(log: Path, action: str, n: int = 1, **options: object) -> LaunchResult:
    command = WorkerCommand("study", "sqlite:////data/a.db", (str(log), action), _PROGRAM)
    return launch("local", command, n, **options)  # type: ignore[arg-type]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_workers_get_url_and_devices_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    result = _launch(tmp_path / "log", "0", n=3)
    assert (result.exit_codes, result.restarts, result.exit_code) == ([0, 0, 0], 0, 0)
    lines = sorted(_lines(tmp_path / "log"))
    assert lines == [f"sqlite:////data/a.db {device}" for device in (4, 4, 6)]


def test_the_command_line_hides_the_url_and_hands_on_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = WorkerCommand("-study", "postgresql://me:secret@host/db", ("--device", "cpu"))
    assert "secret" not in " ".join(command.line)
    assert command.line[-4:] == ["--device", "cpu", "--", "-study"]
    assert command.program == worker_program()
    assert worker_program("-v", "-v")[2:] == ("optuna_deepweeds", "-v", "-v", "worker", "--quiet")
    monkeypatch.chdir(tmp_path)
    for url, absolute in (("a/b.db", f"{tmp_path}/a/b.db"), ("/a/b.db", "/a/b.db")):
        assert WorkerCommand("s", f"sqlite:///{url}").absolute_url == f"sqlite:///{absolute}"


@pytest.mark.parametrize(
    ("action", "n_starts", "exit_code"),
    [("kill", 2, 137), ("5", 2, 5), ("1", 2, 1), ("4", 1, 4), ("3", 1, 3), ("143", 1, 143)],
)
def test_only_crashes_are_restarted(
    tmp_path: Path, action: str, n_starts: int, exit_code: int, caplog: pytest.LogCaptureFixture
) -> None:
    result = _launch(tmp_path / "log", action, max_restarts=1)
    assert len(_lines(tmp_path / "log")) == n_starts
    assert (result.restarts, result.exit_code) == (n_starts - 1, exit_code)
    assert caplog.text.count("a worker was lost") == n_starts - 1


def test_stop_reaches_every_worker_once(tmp_path: Path) -> None:
    ready = tmp_path / "log.ready"
    result = _launch(tmp_path / "log", "wait", 2, should_stop=lambda: len(_lines(ready)) == 2)
    assert (result.exit_codes, result.restarts) == ([143, 143], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death.")
def test_workers_leave_when_their_launcher_is_killed(tmp_path: Path) -> None:
    script = (
        "from optuna_deepweeds.studies.launch import WorkerCommand, launch\n"
        f"arguments = ({str(tmp_path / 'log')!r}, 'wait')\n"
        f"launch('local', WorkerCommand('s', 'sqlite:////a.db', arguments, {_PROGRAM!r}), 1)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script])
    _wait_for(lambda: len(_lines(tmp_path / "log.ready")) == 1)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 1
    launcher.kill()
    launcher.wait()
    _wait_for(lambda: not Path(f"/proc/{children[0]}/cmdline").exists())


def test_errors_of_the_caller_stop_the_workers(tmp_path: Path) -> None:
    def fail() -> None:
        if _lines(tmp_path / "log.ready"):
            raise RuntimeError("display broke")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="display broke"):
        _launch(tmp_path / "log", "wait", on_tick=fail)
    assert time.monotonic() - started < 50


@pytest.mark.parametrize(
    ("value", "devices"), [(None, []), ("", []), ("-1", []), ("0, 2", ["0", "2"])]
)
def test_visible_devices(
    monkeypatch: pytest.MonkeyPatch, value: str | None, devices: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_devices() == devices


def _wait_for(condition: object, seconds: float = 50.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
