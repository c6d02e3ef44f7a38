"""The agent: registers the site, polls for work as a sign of life, and ends in good order."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time

import catchment
from catchment.errors import CatchmentError, Forbidden, Refused, Unauthorized
from catchment.observe import trace
from catchment.observe.endpoint import Endpoint
from catchment.observe.site import SiteFigures
from catchment.site.backoff import Backoff
from catchment.site.cache import BlobCache
from catchment.site.cgroups import Cgroups
from catchment.site.config import SiteConfig
from catchment.site.entries import Entries
from catchment.site.exchange import Exchange, NotRegisteredError
from catchment.site.fetching import CachedFetch
from catchment.site.hardware import visible_gpus
from catchment.site.home import Home
from catchment.site.identity import KNOWN_FILE, KnownIdentities, own_identity
from catchment.site.isolation import Isolator
from catchment.site.launch import Executor, Launcher
from catchment.site.outbox import Outbox
from catchment.site.placement import Places
from catchment.site.pods.isolation import pod_isolation
from catchment.site.pods.launching import pod_launcher
from catchment.site.runner import Runner
from catchment.site.secure import SecureSession
from catchment.site.secure_sessions import SecureSessions
from catchment.site.work import Work
from catchment.site.works import Works
from catchment.wire.messages import PollAnswer, PollRequest, Registered, Registration, WorkOrder

logger = logging.getLogger(__name__)

EXIT_STOPPED = 0
EXIT_BROKEN = 1
EXIT_UNAUTHORIZED = 3
EXIT_REFUSED = 4

_STOP_GRACE_S = 1.5
_LEAVE_S = 1.5
_SAID_TWICE_S = 0.5
_FLUSH_S = 0.5


class Agent:
    """One site's agent. `run` blocks until `stop`, from any thread."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self._home = Home(config.home)
        self._figures = SiteFigures()
        self._session = secrets.token_hex(16)
        self._endpoint: Endpoint | None = None
        self._stopped = threading.Event()
        self._exit_code = EXIT_STOPPED
        self._exchange = self._open_exchange()
        self._poll_lock = threading.Lock()
        self._waiting_for_a_slot = False
        self._known = False
        self._registered: Registered | None = None
        self._outage = _Outage(config.endpoint.url)

    def run(self) -> int:
        """Work until told to stop; return the process's exit code.

        Raises:
            SetupError: the home folder cannot be used.
        """
        self._home.open()
        try:
            self._set_up()
            self._serve_figures()
            polling = threading.Thread(target=self._keep_polling, name="poll", daemon=True)
            polling.start()
            self._stopped.wait()
            self._wind_up(polling)
        finally:
            self._home.close()
        return self._exit_code

    def stop(self) -> None:
        """Make `run` return, within five seconds."""
        self._stopped.set()

    def _set_up(self) -> None:
        config = self._config
        self._identity = own_identity(self._home.folder)
        # Before any child is started: it moves this process.
        cgroups = Cgroups.delegated() if config.pods is None else None
        self._launcher = self._executor()
        cache = BlobCache(self._home.cache, config.cache_bytes, self._figures)
        fetch = CachedFetch(cache, self._open_exchange)
        runner = Runner(config, self._home, self._launcher, fetch, cgroups, self._isolator, self._figures)
        self._outbox = Outbox(self._home.outbox, self._open_exchange, self._introduce, self._on_free)
        gpus = visible_gpus() if config.pods is None else tuple(map(str, range(config.resources.gpu)))
        places = Places(gpus[: config.resources.gpu], sorted(os.sched_getaffinity(0)))
        self._works = Works(
            self._home,
            runner,
            self._outbox,
            places,
            self._sessions(),
            config.max_task_parallelism,
            self._on_free,
            self._figures,
        )
        self._recovered: list[Work] = self._works.recover()
        if self._recovered or not self._outbox.first_pass_done:
            logger.info(
                "taking up earlier work unfinished=%d outbox=%d",
                len(self._recovered),
                len(self._outbox.ids()),
            )

    def _serve_figures(self) -> None:
        """Count what lies there, and serve the figures on loopback where a port is given."""
        self._figures.watch(
            lambda: len(self._outbox.ids()),
            lambda: max(0, len(self._works.holding()) - len(self._outbox.ids())),
            self._home.cache,
            self._home.folder,
        )
        if self._config.metrics_port is not None:
            self._endpoint = Endpoint(self._config.metrics_port, self._figures.registry.text)
            logger.info("figures are served at http://127.0.0.1:%d/metrics", self._endpoint.port)

    def _executor(self) -> Executor:
        """What starts scripts, and what it keeps them from."""
        config = self._config
        if config.pods is not None:
            self._isolator: Isolator = pod_isolation(config)
            return pod_launcher(config, self._home)
        self._isolator = Isolator.tried_out(config, self._home)
        launcher = Launcher(config.runtimes if config.warm else ())
        for runtime in config.runtimes[:1]:  # others when the first work asks for them: each costs memory
            launcher.preload(runtime)
        return launcher

    def _sessions(self) -> SecureSessions:
        config = self._config
        known = KnownIdentities(self._home.folder / KNOWN_FILE, config.identities)

        def open_session(order: WorkOrder) -> SecureSession:
            return SecureSession(
                order, config.name, self._identity, known, config.secure_minimum, self._open_exchange
            )

        return SecureSessions(open_session, send_logs=config.send_logs, required=config.require_secure)

    def _wind_up(self, polling: threading.Thread) -> None:
        """Stop everything; each step has its own bound, together they are below five seconds."""
        self._exchange.abort()
        leaving = threading.Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        self._works.stop(_STOP_GRACE_S, _STOP_GRACE_S + 1.5)
        self._outbox.stop(0.5)
        self._launcher.close()
        polling.join(0.5)
        leaving.join(_LEAVE_S)
        if self._endpoint is not None:
            self._endpoint.close()
        trace.flush(_FLUSH_S)
        logger.info("agent ended site=%s code=%d", self._config.name, self._exit_code)

    def _open_exchange(self) -> Exchange:
        return Exchange(self._config.endpoint, self._config.name, self._figures)

    def _registration(self) -> Registration:
        config = self._config
        return Registration(
            session=self._session,
            address=config.address,
            runtimes=config.runtimes,
            datasets=tuple(sorted(config.datasets)),
            entries=Entries(config.entries).names(),
            resources=config.resources,
            max_task_parallelism=config.max_task_parallelism,
            allow_scripts=config.policy.allow_scripts,
            isolation=self._isolator.report,
            agent_version=catchment.__version__,
            identity=self._identity.public.hex(),
        )

    def _introduce(self) -> Registered:
        """Register on a connection of its own."""
        with self._open_exchange() as exchange:
            return exchange.register(self._registration())

    def _leave(self) -> None:
        if not self._known:
            return
        try:
            with self._open_exchange() as exchange:
                exchange.leave(self._session, _LEAVE_S)
        except CatchmentError as error:
            logger.info("goodbye was not heard why=%r", str(error))

    def _end(self, code: int) -> None:
        self._exit_code = code
        self._stopped.set()

    def _keep_polling(self) -> None:
        """The poll's thread. Without it the agent is of no use: if it breaks, the agent ends."""
        try:
            self._poll_for_ever()
        except Exception:
            logger.exception("agent failed site=%s", self._config.name)
            self._end(EXIT_BROKEN)
            raise

    def _poll_for_ever(self) -> None:
        """Register, poll, wait out outages."""
        backoff = Backoff(0.2, 5.0)
        while not self._stopped.is_set():
            try:
                self._poll(self._registered or self._register())
            except (CatchmentError, OSError) as error:
                if not self._exchange.aborted:  # else a slot became free, or the agent stops
                    self._note(error)
                    self._stopped.wait(backoff.next_s())
            else:
                self._figures.connected.set(1)
                backoff.reset()
                if self._outage.ends():
                    self._outbox.wake()

    def _note(self, error: CatchmentError | OSError) -> None:
        """Decide what a failed call means: try on, register again, or give up."""
        self._figures.connected.set(0)
        if isinstance(error, OSError):
            logger.error("work cannot be taken on why=%r", str(error))
            return
        if isinstance(error, Refused):
            logger.error("coordinator refuses this agent why=%r", str(error))
            self._end(EXIT_REFUSED)
            return
        if isinstance(error, Unauthorized | Forbidden) and not self._known:
            logger.error("coordinator does not let this site in why=%r", str(error))
            self._end(EXIT_UNAUTHORIZED)
            return
        if isinstance(error, NotRegisteredError):
            self._registered = None
        self._outage.begins(error)

    def _register(self) -> Registered:
        """Introduce the site on the poll's connection."""
        with self._poll_lock:
            self._waiting_for_a_slot = False
            self._exchange.rearm()
        self._registered = registered = self._exchange.register(self._registration())
        self._figures.connected.set(1)
        logger.info(
            "registered site=%s server=%s lease_s=%.0f",
            self._config.name,
            self._config.endpoint.url,
            registered.lease_s,
        )
        if not self._known:
            self._known = True
            self._outbox.start()
        return registered

    def _poll(self, registered: Registered) -> None:
        """One poll, and what its answer asks for."""
        with self._poll_lock:
            self._exchange.rearm()
            free = self._works.free() if self._outbox.first_pass_done and not self._recovered else 0
            self._waiting_for_a_slot = free == 0
        wait_s = 0.0 if self._recovered else min(registered.poll_s, 60.0)
        request = PollRequest(session=self._session, free=free, holding=self._works.holding(), wait_s=wait_s)
        answer = self._exchange.poll(request)
        news = self._obey(answer)
        if not news and (answer.work or answer.cancel):
            self._stopped.wait(_SAID_TWICE_S)  # or two that do not understand each other talk all day

    def _obey(self, answer: PollAnswer) -> bool:
        """Do what the coordinator says; whether any of it was new."""
        news = [self._works.cancel(cancel.work_id, cancel.reason) for cancel in answer.cancel]
        for work in self._recovered:
            self._works.begin(work)
        self._recovered = []
        news += [self._works.accept(order) for order in answer.work]
        return any(news)

    def _on_free(self) -> None:
        """A slot is free: a poll that said there is none is cut short, and the next one tells."""
        with self._poll_lock:
            if self._waiting_for_a_slot and self._works.free() > 0:
                self._waiting_for_a_slot = False
                self._exchange.abort()


class _Outage:
    """Says once that the coordinator is away, and once that it is back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._since: float | None = None

    def begins(self, error: Exception) -> None:
        """Note a failed call."""
        if self._since is None:
            self._since = time.monotonic()
            logger.warning("coordinator is away, trying on server=%s why=%r", self._url, str(error))

    def ends(self) -> bool:
        """Note a call that worked; whether that ends an outage."""
        if self._since is None:
            return False
        logger.info("coordinator is back after_s=%.1f", time.monotonic() - self._since)
        self._since = None
        return True
