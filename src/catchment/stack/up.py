"""`catchment up`: all processes of the system on one machine, in the foreground."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from catchment import __version__
from catchment.errors import SetupError
from catchment.settings import Settings
from catchment.stack.guard import Guard
from catchment.stack.home import (
    PREFECT_DATABASE,
    STORE_DATABASE,
    choose_database,
    locked,
    make_home,
    record_database,
    sqlite_url,
)
from catchment.stack.local_sites import own_token, prepare_sites, require_admin, site_tokens
from catchment.stack.options import StackOptions, site_name
from catchment.stack.ports import claim_port
from catchment.stack.postgres import EmbeddedPostgres
from catchment.stack.project import find_project
from catchment.stack.service import RunningService, Say, Service
from catchment.stack.services import (
    api_service,
    host_service,
    postgres_service,
    prefect_service,
    runner_service,
    site_service,
)
from catchment.stack.tls import check_transport, prepare_certificates

READY_TIMEOUT_S = 180.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_up(options: StackOptions, *, say: Say, announce: Callable[[str], None]) -> None:
    """Start everything, announce `ready http(s)://...`, and stop everything when a signal asks for it.

    Call it from the main thread: signals arrive there.

    Raises:
        SetupError: something cannot start; what had been started is stopped again.
    """
    check_transport(options)
    options = replace(options, home=make_home(options.home))
    project = find_project(Path.cwd())
    with locked(options.home):
        options = _claim_ports(options)
        asyncio.run(Stack(options, project, say, announce).run())


@dataclass(frozen=True)
class _Databases:
    """URLs of the store's and of Prefect's database."""

    store: str
    prefect: str


class Stack:
    """The running processes, in groups by the order in which they stop."""

    def __init__(
        self, options: StackOptions, project: Path, say: Say, announce: Callable[[str], None]
    ) -> None:
        self._options = options
        self._project = project
        self._say = say
        self._announce = announce
        self._groups: dict[str, list[RunningService]] = {
            name: [] for name in ("sites", "runner", "api", "prefect", "postgres")
        }
        self._postgres: EmbeddedPostgres | None = None
        self._asked_to_stop = asyncio.Event()
        self._guard = Guard()

    async def run(self) -> None:
        """Start, wait for a signal, stop."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        starting = asyncio.create_task(self._start())
        asked = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await asked
        finally:
            starting.cancel()
            asked.cancel()
            await asyncio.wait({starting, asked})
            await self._stop()

    def _on_signal(self, number: signal.Signals) -> None:
        if not self._asked_to_stop.is_set():
            self._say(f"stopping ({number.name}); once more to kill")
            self._asked_to_stop.set()
            return
        for group in self._groups.values():
            for service in group:
                service.hurry()

    async def _start(self) -> None:
        options = self._options
        self._say(f"catchment {__version__}, home {options.home}")
        databases = await self._start_databases()
        # Loading frameworks for training takes all cores there are: the sites come last, so that nobody waits
        # for them who has something to do before the first round.
        async with _first_failure(), asyncio.TaskGroup() as together:
            together.create_task(self._run("prefect", prefect_service(options, databases.prefect)))
            tokens, token = await self._prepare_store(databases.store)
            together.create_task(self._run("api", api_service(options, self._project, databases.store)))
        async with _first_failure(), asyncio.TaskGroup() as together:
            together.create_task(self._run("runner", runner_service(options, self._project, databases.store)))
            together.create_task(self._run_serving(databases.store))
        async with _first_failure(), asyncio.TaskGroup() as together:
            for index in range(1, options.sites + 1):
                site = site_service(options, index, site_token=tokens.get(site_name(index)), token=token)
                together.create_task(self._run("sites", site))
        self._tell()
        self._announce(f"ready {options.api_url}")

    async def _run_serving(self, database_url: str) -> None:
        """The serving host, where what model servers need is installed."""
        from catchment.serving.host.serve import missing_packages

        if missing := missing_packages():
            self._say(f"no models are served on this machine: {', '.join(missing)} lacks (extra 'serving')")
            return
        announcements = self._guard.announcements
        await self._run("runner", host_service(self._options, self._project, database_url, announcements))

    async def _start_databases(self) -> _Databases:
        options = self._options
        (options.home / "prefect").mkdir(exist_ok=True)
        prefect_sqlite = f"sqlite+aiosqlite:///{options.home / 'prefect' / 'prefect.db'}"
        if options.database_url:
            return _Databases(options.database_url, prefect_sqlite)
        if choose_database(options.home, sqlite=options.sqlite) == "sqlite":
            record_database(options.home, "sqlite")
            return _Databases(sqlite_url(options.home), prefect_sqlite)
        log = options.home / "logs" / "postgres.log"
        server = self._postgres = EmbeddedPostgres(options.home / "postgres", log=log)
        await asyncio.to_thread(server.prepare)
        await self._run("postgres", postgres_service(server))
        store = await asyncio.to_thread(server.create_database, STORE_DATABASE)
        await asyncio.to_thread(server.create_database, PREFECT_DATABASE)
        record_database(options.home, "postgres")
        return _Databases(store, server.url(PREFECT_DATABASE, driver="asyncpg"))

    async def _prepare_store(self, database_url: str) -> tuple[dict[str, Path], str | None]:
        """Bring the schema up to date and the sites' folders into being; tokens where they are needed."""
        from catchment.store import migrate

        settings = Settings(home=self._options.home, database_url=database_url)
        await asyncio.to_thread(migrate, settings)
        await asyncio.to_thread(prepare_sites, self._options, self._say)
        await asyncio.to_thread(prepare_certificates, self._options)
        if self._options.loopback:
            return {}, None
        return await asyncio.to_thread(self._make_tokens, settings)

    def _make_tokens(self, settings: Settings) -> tuple[dict[str, Path], str]:
        from catchment.store import open_store

        store = open_store(settings)
        try:
            require_admin(store, self._options)
            return site_tokens(store, self._options), own_token(store, self._options)
        finally:
            store.close()

    async def _run(self, group: str, service: Service) -> None:
        running = RunningService(service, self._guard, self._say)
        self._groups[group].append(running)
        await running.start(deadline_s=READY_TIMEOUT_S)

    async def _stop(self) -> None:
        for group in self._groups.values():
            await asyncio.gather(*(service.stop() for service in group))
        if self._postgres is not None:
            self._postgres.release()
        self._guard.close()
        self._say("stopped")

    def _tell(self) -> None:
        options = self._options
        self._say(f"Prefect UI: {options.prefect_url}")
        self._say(f"logs: {options.home / 'logs'}")
        if options.ca_file is not None:
            self._say(f"HTTPS: commands need --ca-file {options.ca_file} (or CATCHMENT_CA_FILE)")
        if options.loopback:
            self._say("no token is needed: the API answers this machine only")
        else:
            self._say("the API asks for tokens ('catchment token create')")


@asynccontextmanager
async def _first_failure() -> AsyncIterator[None]:
    """Raise the first failure of a group of tasks, which has cancelled the rest: a person can act on it."""
    try:
        yield
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _claim_ports(options: StackOptions) -> StackOptions:
    """The options with free ports filled in; nothing has been started when one is taken."""
    api_port = claim_port(options.host, options.api_port, "--api-port")
    prefect_port = claim_port("127.0.0.1", options.prefect_port, "--prefect-port", but=api_port)
    if api_port == prefect_port:
        raise SetupError(f"--api-port and --prefect-port are both {api_port}; give two different ones")
    return replace(options, api_port=api_port, prefect_port=prefect_port)
