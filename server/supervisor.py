"""`perennial serve`: an embedded Valkey, a worker and an api on one machine, started, kept and stopped together.

They are separate processes that share nothing but the store, exactly as on many machines. Each is in a session of its
own, so that Ctrl-C reaches only this process, which then ends them in order: the api stops accepting and finishes its
streams while the worker drains, then Valkey. A second signal hurries. A child that dies after the first readiness is
started again, after a pause that doubles; one that dies before it ends everything, its own words being the error.

However this process dies, no child stays: the api and the worker read a pipe whose other end only this process holds,
and stop at its end of file.

The listening socket is bound here and handed down, so a port in use is found before anything is started, and clients
that arrive while the api is being restarted wait instead of being refused.

It knows nothing of what its children do, only whether they live and whether `/health/ready` says 200.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

from server.errors import StartupError
from server.logs import get_logger
from server.net import address, bind
from server.settings import PREFIX, Settings, is_loopback
from server.store.embedded import EmbeddedValkey

LOOK_S = 0.1  # between two looks at readiness
VALKEY_LOOK_S = 0.5
STEADY_S = 60.0  # a child that lived so long begins with the shortest pause again
PAUSE_S = (0.5, 30.0)  # before the first restart, and at most
AFTER_DRAIN_S = 5.0  # beyond `drain_s`, for the last commit and the last byte
HURRY_S = 2.0
log = get_logger()


class Child:
    """One process and the rule for bringing it back. command: arguments after the interpreter."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], fds: Sequence[int]) -> None:
        self.name = name
        self.command = command
        self.env = env
        self.fds = fds
        self.process: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """Start it and wait for its end; the exit code, negative for a signal."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            env=dict(self.env),
            pass_fds=tuple(self.fds),
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
        )
        return await self.process.wait()

    def send(self, number: int) -> None:
        """A signal, if it lives."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


class Supervisor:
    """See the module. say: takes the lines meant for the person who started it.

    command: what begins a child's command line, before its name and flags.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None],
        command: Sequence[str] = (sys.executable, "-m", "server.cli"),
    ) -> None:
        self.settings = settings
        self.say = say
        self.command = command
        self._ready = False
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._signal = 0
        self._failed: str | None = None

    async def run(self) -> int:
        """Serve until a signal or a failure; the exit code.

        Raises SettingsError or StartupError before anything was started.
        """
        anonymous = self.settings.check_exposure()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(bind(self.settings.host, self.settings.port))
            lifeline, held = os.pipe()
            stack.callback(os.close, held)
            stack.callback(os.close, lifeline)
            async with contextlib.AsyncExitStack() as embedded:
                url = self.settings.redis_url
                if url is None:
                    valkey = EmbeddedValkey(self.settings.data_dir)
                    await valkey.start()
                    embedded.push_async_callback(valkey.stop)
                    url = valkey.url
                    keeper = asyncio.create_task(self._keep_valkey(valkey))
                    embedded.push_async_callback(_cancelled, keeper)
                await self._serve(url, sock, lifeline, anonymous)
        if self._failed is not None:
            log.error("stopped", reason=self._failed)
            return 1
        return 128 + self._signal if self._hurry.is_set() else 0

    def _on_signal(self, number: int) -> None:
        if self._ending.is_set():
            self._signal = number
            self._hurry.set()
        self._ending.set()

    async def _serve(self, url: str, sock: socket.socket, lifeline: int, anonymous: bool) -> None:
        env = {**os.environ, **self.settings.environment(), PREFIX + "REDIS_URL": url}
        tail = ("--lifeline-fd", str(lifeline))
        worker = Child("worker", (*self.command, "worker", *tail), env, (lifeline,))
        api = Child(
            "api",
            (*self.command, "api", *tail, "--listen-fd", str(sock.fileno())),
            env,
            (lifeline, sock.fileno()),
        )
        keepers = {asyncio.create_task(self._keep(child)): child for child in (worker, api)}
        banner = asyncio.create_task(self._announce(sock, anonymous))
        ending = asyncio.create_task(self._ending.wait())
        await ending
        banner.cancel()
        sock.close()  # new clients are refused from now on, not left waiting
        await self._end(keepers)

    async def _keep(self, child: Child) -> None:
        """Run a child, and again when it dies, until the end."""
        pause, longest = PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            started = loop.time()
            code = await child.run()
            if self._ending.is_set():
                return
            if not self._ready:
                self._failed = f"the {child.name} ended while starting (exit code {code})"
                self._ending.set()
                return
            pause = PAUSE_S[0] if loop.time() - started > STEADY_S else pause
            log.error("child_died", child=child.name, code=code, restart_in_s=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(pause * 2, longest)

    async def _keep_valkey(self, valkey: EmbeddedValkey) -> None:
        """Start Valkey again when it dies; what was acknowledged is in its log. Its clients reconnect by themselves."""
        while True:
            await asyncio.sleep(VALKEY_LOOK_S)
            if valkey.pid is None:
                log.error("child_died", child="valkey")
                try:
                    await valkey.stop()  # it is dead already: this lets go of what it held
                    await valkey.start()
                except StartupError as e:
                    self._failed = str(e)
                    self._ending.set()
                    return

    async def _announce(self, sock: socket.socket, anonymous: bool) -> None:
        url = address(sock)
        while not self._ready:
            await asyncio.sleep(LOOK_S)
            self._ready = await is_ready(url)
        for line in banner(url, self.settings, anonymous):
            self.say(line)

    async def _end(self, keepers: Mapping["asyncio.Task[None]", Child]) -> None:
        """Stop the children together: politely, then firmly, and at once after a second signal."""
        for child in keepers.values():
            child.send(signal.SIGTERM)
        hurry = asyncio.create_task(self._hurry.wait())
        deadline = asyncio.get_running_loop().time() + self.settings.drain_s + AFTER_DRAIN_S
        running = set(keepers)
        while running and not hurry.done():
            left = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({*running, hurry}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            running -= done
            if len(running) == 1 and keepers[next(iter(running))].name == "api":
                # Nothing can be generated any more: what is still open would only wait for the time to run out.
                await asyncio.wait({*running, hurry}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                keepers[next(iter(running))].send(signal.SIGINT)
        for number, patience in ((signal.SIGINT, HURRY_S), (signal.SIGKILL, None)):
            running = {task for task in running if not task.done()}
            for task in running:
                keepers[task].send(number)
            if running:
                await asyncio.wait(running, timeout=patience)
        hurry.cancel()


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def is_ready(url: str) -> bool:
    """Whether `/health/ready` says 200."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]


def banner(url: str, settings: Settings, anonymous: bool) -> list[str]:
    """What the person who started it wants to know: where it is, what to type, where data lie, who may use it."""
    key = "" if anonymous else ' -H "Authorization: Bearer $PERENNIAL_KEY"'
    question = '{"messages":[{"role":"user","content":"Why is the sky blue?"}],"temperature":0}'
    if not anonymous:
        access = "with an API key"
    elif is_loopback(settings.host):
        access = "anyone on this machine, without a key (it listens on loopback only)"
    else:
        access = "ANYONE who can reach this address, without a key (PERENNIAL_ALLOW_ANONYMOUS)"
    data = str(settings.data_dir) if settings.redis_url is None else "in the Redis of PERENNIAL_REDIS_URL"
    return [
        f"Perennial is ready: {url}   model {settings.model}",
        f"  data    {data}",
        f"  access  {access}",
        "  try     " + f"curl -N {url}/v1/generate -H 'Content-Type: application/json'{key} -d '{question}'",
    ]
