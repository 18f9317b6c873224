"""Starts and stops `lvmed serve` for the demo, and finds it a data folder that it can use."""

import os
import re
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .api import Api
from .terminal import DemoError, say

START_SECONDS = 120
STOP_SECONDS = 60


def data_folder(runtime: Path) -> Path:
    """The demo's data folder, kept between runs.

    It lies under the project, unless this is root and other users cannot reach that place: the
    built-in Postgres then runs as another user and needs a way to its files.
    """
    usual = runtime / "demo" / "lvmed-demo"
    usual.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or all(_others_may_pass(folder) for folder in usual.parents):
        return usual
    note = runtime / "demo" / "data-folder"
    if note.exists() and Path(note.read_text()).is_dir():
        return Path(note.read_text())
    folder = Path(tempfile.mkdtemp(prefix="lvmed-demo.", dir="/var/tmp"))
    folder.chmod(0o755)
    note.write_text(str(folder))
    say(f"    other users cannot enter {usual.parent}: the data folder is {folder}")
    return folder


def _others_may_pass(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


class Server:
    """A running `lvmed serve`."""

    def __init__(self, binary: Path, runtime: Path) -> None:
        self._binary = binary
        self._pid_file = runtime / "demo" / "server.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self.log = runtime / "demo" / "server.log"
        self.data = data_folder(runtime)

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it is not running."""
        return self._process.pid if self._process else 0

    def start(self) -> Api:
        """Starts it on a free port and waits until it is ready."""
        self._stop_earlier()
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C ends the demo, and the demo ends the server.
            self._process = subprocess.Popen(
                [str(self._binary), "serve", "--listen", "127.0.0.1:0", "--data", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pid_file.write_text(str(self.pid))
        api = Api(self._address())
        self._wait_until_ready(api)
        return api

    def stop(self) -> None:
        """SIGTERM, then patience, then SIGKILL."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"    the server did not stop within {STOP_SECONDS} s and was killed")
                self._process.kill()
                self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def log_tail(self, lines: int = 40) -> str:
        """The end of the server's log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _stop_earlier(self) -> None:
        """Stops the server that an earlier `KEEP=1 make demo` left on the same data folder."""
        if not self._pid_file.exists():
            return
        pid = int(self._pid_file.read_text() or 0)
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(self.data).encode() in command.read_bytes().split(b"\0"):
            say(f"    stopping the server that an earlier demo left running (process {pid})")
            os.kill(pid, signal.SIGTERM)
            for _ in _until(STOP_SECONDS):
                if not command.exists() or not command.read_bytes():
                    break
            else:
                raise DemoError(f"process {pid} does not stop; end it and try again")
        self._pid_file.unlink(missing_ok=True)

    def _address(self) -> str:
        for _ in _until(START_SECONDS):
            text = self.log.read_text(errors="replace")
            if found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", text):
                return found[1]
            self._must_run()
        raise DemoError(f"the server did not listen within {START_SECONDS} s")

    def _wait_until_ready(self, api: Api) -> None:
        reason = ""
        for _ in _until(START_SECONDS):
            try:
                api.get("/readyz")
                return
            except DemoError as error:
                reason = str(error)
            self._must_run()
        raise DemoError(f"the server was not ready within {START_SECONDS} s: {reason}")

    def _must_run(self) -> None:
        if self._process and (status := self._process.poll()) is not None:
            raise DemoError(f"the server ended with status {status}")


def _until(seconds: float) -> Iterator[None]:
    """Turns a tenth of a second apart, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.1)
