"""A peer in another Python environment, spoken to in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna_deepweeds.errors import DeepWeedsError


class Bridge:
    """A script that answers a JSON object a line, run by an interpreter that has a package.

    Args:
        name: Of the peer, as methods call it; `--NAME-python` names the interpreter.
        package: What must be installed there.
        python: The interpreter.
        script: What it runs.

    Attributes:
        cpu_seconds: What the other process has used.

    Raises:
        DeepWeedsError: There is no such interpreter.
    """

    def __init__(self, name: str, package: str, python: str | None, script: Path) -> None:
        if python is None:
            raise DeepWeedsError(
                f"the method {name} needs an environment of its own; install {package} there and "
                f"name its interpreter with --{name}-python."
            )
        self._name, self._package, self._python = name, package, python
        self.cpu_seconds = 0.0
        try:
            self._process = subprocess.Popen(
                # Isolated: our own smac.py lies beside the script.
                [python, "-I", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DeepWeedsError(
                f"--{name}-python must be an interpreter, got {python}: {error}"
            ) from error

    def request(self, **request: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            DeepWeedsError: The other process ended, or tells of an error.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise DeepWeedsError(
                f"the process of {self._name} ended; does `{self._python} -c 'import "
                f"{self._package}'` work?"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DeepWeedsError(f"{self._name} failed: {answer['error']}")
        self.cpu_seconds = answer["cpu"]
        return answer

    def close(self) -> None:
        """End the other process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a server that died leaves a request in the buffer
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
