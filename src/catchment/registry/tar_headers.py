"""Headers of tar archives: USTAR, and PAX records where USTAR has no room, as Go's writer does it."""

from __future__ import annotations

from catchment.models.files import ModelFile
from catchment.models.spans import Span, Spans

BLOCK_BYTES = 512
_END = bytes(2 * BLOCK_BYTES)
_MAX_OCTAL_SIZE = 8**11 - 1
_PAX = b"x"
_REGULAR = b"0"


def tar_of(files: list[ModelFile]) -> Spans:
    """The tar archive of the files in the order given. Owner and group are 0 and nameless on purpose."""
    spans: list[bytes | Span] = []
    gap = b""
    for file in files:
        spans += [gap + header(file), Span(file.source, file.size, file.crc32)]
        gap = bytes(-file.size % BLOCK_BYTES)
    return Spans([*spans, gap + _END])


def header(file: ModelFile) -> bytes:
    """The blocks that stand before a file's bytes."""
    name = file.name.encode()
    split = _split(name) if name.isascii() else None
    records = b""
    if split is None:
        records += _record(b"path", name)
        split = b"", _short(file.name)
    size = file.size
    if size > _MAX_OCTAL_SIZE:
        records += _record(b"size", str(size).encode())
        size = 0
    mtime = min(max(file.mtime, 0), _MAX_OCTAL_SIZE)
    own = _block(split, file.mode & 0o777, size, mtime, _REGULAR)
    if not records:
        return own
    folder, _, last = file.name.rpartition("/")
    beside = f"{folder}/PaxHeaders.0/{last}" if folder else f"PaxHeaders.0/{last}"
    above = _block((b"", _short(beside)), 0, len(records), 0, _PAX)
    return above + records + bytes(-len(records) % BLOCK_BYTES) + own


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name as USTAR's two fields hold them; None when they do not fit."""
    if len(name) <= 100:
        return b"", name
    # The last slash that leaves 1 to 100 bytes behind it and at most 155 before it.
    cut = name.rfind(b"/", 0, 156)
    if cut <= 0 or not 0 < len(name) - cut - 1 <= 100:
        return None
    return name[:cut], name[cut + 1 :]


def _short(name: str) -> bytes:
    """As much of a name as the old field holds; who reads the records never sees it."""
    return name.encode("ascii", "ignore")[:100].rstrip(b"/")


def _record(key: bytes, value: bytes) -> bytes:
    """A PAX record: its own length in digits, then `key=value` and a line end."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: tuple[bytes, bytes], mode: int, size: int, mtime: int, kind: bytes) -> bytes:
    prefix, last = name
    fields = [
        last.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0" % (mode, 0, 0),
        b"%011o\0%011o\0" % (size, mtime),
        b" " * 8,
        kind + bytes(100) + b"ustar\00000" + bytes(64),
        # The device's number, which an extended header does not even have as zero.
        bytes(16) if kind == _PAX else b"0000000\0" * 2,
        prefix.ljust(155, b"\0") + bytes(12),
    ]
    block = bytearray(b"".join(fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
