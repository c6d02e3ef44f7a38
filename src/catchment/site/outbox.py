"""The outbox: finished works on disk, sent until the coordinator has taken or refused them."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from catchment import faults
from catchment.errors import CatchmentError, NotFound, OffsetMismatch, Refused, Unreachable
from catchment.observe import trace
from catchment.site.backoff import Backoff
from catchment.site.exchange import Exchange, NotRegisteredError, Part
from catchment.site.home import folder_name, sync_folder, write_durably
from catchment.site.runner import failed
from catchment.site.work import Work
from catchment.wire.messages import Blob, Message, WorkResult
from catchment.wire.task import FILES, UPDATE

logger = logging.getLogger(__name__)

REQUEST_BYTES = 32 * 2**20
"""The connection is idle while each request is answered; an update called off ends with its request."""
_RESULT = "result.json"
_TRACE = "traceparent"
"""The work's span; a file of its own, which agents of earlier versions do not look for."""
_STUCK = 3
_FILE_OF: dict[Part, str] = {"update": UPDATE, "files": FILES}


class Delivery(Message):
    """What `result.json` holds."""

    work_id: str
    result: WorkResult


class _Parcel:
    """One finished work on its way."""

    def __init__(self, folder: Path, delivery: Delivery, *, new: bool = False) -> None:
        self.folder = folder
        self.delivery = delivery
        self.new = new  # nothing of it can have been sent
        self.backoff = Backoff(0.5, 30.0)
        self.due = 0.0
        self.tried = False
        self.dropped = False

    @property
    def place(self) -> trace.Place | None:
        """The work's span; None where nothing is traced, or it began before anything was."""
        try:
            return trace.read((self.folder / _TRACE).read_text()) if trace.is_on() else None
        except OSError:
            return None


def _parts(result: WorkResult) -> list[tuple[Part, Blob]]:
    """What is uploaded before the result."""
    parts: tuple[tuple[Part, Blob | None], ...] = (("update", result.update), ("files", result.files))
    return [(part, blob) for part, blob in parts if blob is not None]


class Outbox:
    """Sends finished works from a thread of its own, in order of arrival, round and round.

    Args:
        folder: survives restarts; what lies in it is sent by the next agent.
        open_exchange: a new connection.
        register: introduces the site again; used when the coordinator has forgotten it.
        on_first_pass: called once when everything that lay there at the start was tried.
    """

    def __init__(
        self,
        folder: Path,
        open_exchange: Callable[[], Exchange],
        register: Callable[[], object],
        on_first_pass: Callable[[], object],
    ) -> None:
        self._folder = folder
        self._open_exchange = open_exchange
        self._register = register
        self._on_first_pass = on_first_pass
        self._changed = threading.Condition()
        self._parcels: dict[str, _Parcel] = {}
        self._stopping = False
        self._exchange: Exchange | None = None
        self._thread = threading.Thread(target=self._send_all, name="outbox", daemon=True)
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            try:
                delivery = Delivery.model_validate_json((path / _RESULT).read_bytes())
            except (OSError, ValueError) as error:
                logger.error("result cannot be read folder=%s why=%r", path, str(error))  # noqa: TRY400
                continue
            self._parcels[delivery.work_id] = _Parcel(path, delivery)
        self.first_pass_done = not self._parcels

    def put(self, work: Work, result: WorkResult) -> None:
        """Take over a finished work: it is durable when this returns, and the work's folder may go."""
        faults.reach("site_after_training")
        staged = work.folder / "out"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for part, _ in _parts(result):
            name = _FILE_OF[part]
            (work.task_folder / name).replace(staged / name)
            with (staged / name).open("rb") as file:
                os.fsync(file.fileno())
        if work.place is not None:
            (staged / _TRACE).write_text(work.place.traceparent)
        delivery = Delivery(work_id=work.order.work_id, result=result)
        write_durably(staged / _RESULT, delivery.model_dump_json().encode())
        target = self._folder / folder_name(delivery.work_id)
        staged.rename(target)
        sync_folder(self._folder)
        with self._changed:
            self._parcels[delivery.work_id] = _Parcel(target, delivery, new=True)
            self._changed.notify_all()

    def ids(self) -> tuple[str, ...]:
        """Ids of all works that are not delivered."""
        with self._changed:
            return tuple(self._parcels)

    def drop(self, work_id: str) -> bool:
        """Forget a work that nobody wants any more; whether it was here."""
        with self._changed:
            parcel = self._parcels.pop(work_id, None)
            if parcel is None:
                return False
            parcel.dropped = True
        shutil.rmtree(parcel.folder, ignore_errors=True)
        return True

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Try everything now: the coordinator answers again."""
        with self._changed:
            for parcel in self._parcels.values():
                parcel.due = 0.0
                parcel.backoff.reset()
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End the thread; what is not delivered stays on disk."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self._exchange is not None:
                self._exchange.abort()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _send_all(self) -> None:
        with self._open_exchange() as exchange:
            self._exchange = exchange
            while (parcel := self._next()) is not None:
                self._try(exchange, parcel)
                self._note_first_pass()

    def _next(self) -> _Parcel | None:
        """The parcel that is due for longest; waits for one. None when the outbox stops."""
        with self._changed:
            while not self._stopping:
                parcel = min(self._parcels.values(), key=lambda parcel: parcel.due, default=None)
                now = time.monotonic()
                if parcel is not None and parcel.due <= now:
                    return parcel
                self._changed.wait(parcel.due - now if parcel else None)
            return None

    def _note_first_pass(self) -> None:
        if not self.first_pass_done and all(parcel.tried for parcel in self._parcels.values()):
            self.first_pass_done = True
            self._on_first_pass()

    def _try(self, exchange: Exchange, parcel: _Parcel) -> None:
        work_id = parcel.delivery.work_id
        try:
            words = self._deliver(exchange, parcel)
        except NotRegisteredError as error:
            self._forgotten(parcel, error)
        except NotFound as error:
            logger.warning("result is not wanted work=%s why=%r", work_id, str(error))
            self.drop(work_id)
        except Refused as error:
            self._refused(parcel, error)
        except (CatchmentError, OSError) as error:
            self._later(parcel, error)
        except Exception as error:
            # The edge of the outbox's thread, which must outlive whatever one result does to it.
            logger.exception("result cannot be sent work=%s", work_id)
            self._later(parcel, error)
        else:
            if not parcel.dropped:
                logger.info("result delivered work=%s answer=%r", work_id, words)
            self.drop(work_id)
        parcel.tried, parcel.new = True, False

    def _deliver(self, exchange: Exchange, parcel: _Parcel) -> str:
        """Send update and files, then the result; return the coordinator's word on it."""
        parts = [blob.size_bytes for _, blob in _parts(parcel.delivery.result)]
        with trace.within(parcel.place), trace.span("upload", kind="client", size_bytes=sum(parts)) as here:
            words = self._sent(exchange, parcel)
            here.note(accepted=words == "accepted")
            return words

    def _sent(self, exchange: Exchange, parcel: _Parcel) -> str:
        result = parcel.delivery.result
        for part, blob in _parts(result):
            self._upload(exchange, parcel, part, blob)
        if parcel.dropped:
            return "called off"
        answer = exchange.send_result(parcel.delivery.work_id, result)
        return "accepted" if answer.accepted else f"not accepted: {answer.reason}"

    def _upload(self, exchange: Exchange, parcel: _Parcel, part: Part, blob: Blob) -> None:
        """Send what the coordinator does not have yet of a part."""
        work_id = parcel.delivery.work_id
        offset = 0 if parcel.new else exchange.upload_offset(work_id, part)
        mismatches = 0
        with (parcel.folder / _FILE_OF[part]).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            data = memoryview(mapped)
            while offset < blob.size_bytes and not (parcel.dropped or self._stopping):
                before = offset
                try:
                    chunk = data[offset : offset + REQUEST_BYTES]
                    offset = exchange.put_chunk(work_id, part, blob, chunk, offset)
                except OffsetMismatch as error:
                    offset = error.offset
                mapped.madvise(mmap.MADV_DONTNEED)  # what was read would count as this process's memory
                faults.reach("site_mid_upload")
                mismatches = mismatches + 1 if offset <= before else 0
                if mismatches >= _STUCK or offset > blob.size_bytes:
                    raise Unreachable(f"the upload does not get on: offset {offset} of {blob.size_bytes}")
        if self._stopping:
            raise Unreachable("the agent stops")

    def _forgotten(self, parcel: _Parcel, error: NotRegisteredError) -> None:
        """Register again and try once more; a second 410 is about the work and not about the site."""
        if parcel.tried and parcel.due < 0:
            logger.warning("result is not wanted work=%s why=%r", parcel.delivery.work_id, str(error))
            self.drop(parcel.delivery.work_id)
            return
        try:
            self._register()
        except CatchmentError as problem:
            self._later(parcel, problem)
        else:
            parcel.due = -1.0

    def _refused(self, parcel: _Parcel, error: Refused) -> None:
        """An update that is refused as such becomes a failed result; a refused result is dropped."""
        work_id, result = parcel.delivery.work_id, parcel.delivery.result
        logger.error("coordinator refuses work=%s why=%r", work_id, str(error))
        if not _parts(result):
            self.drop(work_id)
            return
        what = "update" if result.files is None else "update or files"
        reason = f"the coordinator refused the {what}: {error}"
        changed = failed(reason, result.log_tail).model_copy(
            update={"started_at": result.started_at, "seconds": result.seconds}
        )
        parcel.delivery = Delivery(work_id=work_id, result=changed)
        write_durably(parcel.folder / _RESULT, parcel.delivery.model_dump_json().encode())

    def _later(self, parcel: _Parcel, error: Exception) -> None:
        if self._stopping:
            return
        wait_s = parcel.backoff.next_s()
        logger.info("result waits work=%s seconds=%.1f why=%r", parcel.delivery.work_id, wait_s, str(error))
        parcel.due = time.monotonic() + wait_s
