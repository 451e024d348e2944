"""`openmfr serve` as a process of its own, for tests."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from deploy.service.house import GALLERY_KEY

from openmfr.deploy.gallery.cipher import KEY_VARIABLE

#: Seconds that starting or stopping may take on a busy machine.
PATIENCE = 120

_START = """
import sys
from openmfr.cli import main as cli
cli.VERBS.setdefault("serve", "")
sys.exit(cli.main(sys.argv[1:]))
"""


class Server:
    """A running service.

    Args:
        folder: Where it runs; what it says of errors goes to `errors.txt` there.
        words: Of the command, after `openmfr serve`; the port is any.

    Attributes:
        url: Where it listens.
        port: Its port.
    """

    def __init__(self, folder: Path, *words: str, python: str = _START) -> None:
        self._errors = folder / "errors.txt"
        command = [sys.executable, "-c", python, "serve", *words, "--port", "0"]
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ
                | {
                    KEY_VARIABLE: base64.b64encode(GALLERY_KEY).decode(),
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                },
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:(\d+));", line)
        assert found, f"it did not start: {line}{self.log}"
        self.url, self.port = found[1], int(found[2])

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._errors.read_text()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it and return its exit code."""
        self.tell(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, if it runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
