"""The fields of a tar header and of its PAX extension, read with mistrust."""

from __future__ import annotations

from dataclasses import dataclass, replace

from catchment.errors import BadArtifact

_MAX_SIZE = 2**63 - 1


@dataclass(frozen=True)
class TarHeader:
    """What stands before a member's bytes.

    Attributes:
        name: as written.
        size: bytes that follow, without padding.
        mode: permission bits.
        mtime: seconds since 1970.
        kind: the type flag.
    """

    name: str
    size: int
    mode: int
    mtime: int
    kind: bytes

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; very old archives say so by the name alone."""
        return self.kind == b"5" or (self.kind == b"\0" and self.name.endswith("/"))

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.kind in (b"0", b"\0", b"7") and not self.is_folder

    def extended(self, words: dict[str, str]) -> TarHeader:
        """The header with what an extended header before it says instead."""
        if any(key.startswith("GNU.sparse") for key in words):
            raise BadArtifact(f"the layer holds {self.name!a}, a sparse file; only whole files are taken")
        changed = replace(self, name=words.get("path", self.name))
        if "size" in words:
            changed = replace(changed, size=_decimal(words["size"], "size"))
        if "mtime" in words:
            changed = replace(
                changed, mtime=_decimal(words["mtime"].removeprefix("-").partition(".")[0], "mtime")
            )
        return changed


def read_header(block: bytes) -> TarHeader:
    """The header in a block of 512 bytes.

    Raises:
        BadArtifact: its checksum or a field of it is wrong.
    """
    summed = sum(block) - sum(block[148:156]) + 8 * 32
    # Some writers of old have added the bytes as signed ones.
    signed = summed - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    if _number(block[148:156]) not in (summed, signed):
        raise BadArtifact("the layer is no sound tar archive: the checksum of a header does not hold")
    name = _words(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_words(block[345:500])}/{name}"
    kind = block[156:157]
    # A folder has no bytes behind it, whatever its header says.
    size = 0 if kind == b"5" else _number(block[124:136])
    return TarHeader(name, size, _number(block[100:108]) & 0o777, _number(block[136:148]), kind)


def pax_records(data: bytes) -> dict[str, str]:
    """The records of a PAX extended header.

    Raises:
        BadArtifact: they are not what the standard says.
    """
    records: dict[str, str] = {}
    while data:
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if length > len(data) or not equals or not value.endswith(b"\n"):
            raise BadArtifact("the layer is no sound tar archive: an extended header is damaged")
        try:
            records[key.decode()] = value[:-1].decode()
        except UnicodeDecodeError as error:
            raise BadArtifact("the layer holds an extended header that is no UTF-8") from error
        data = data[length:]
    return records


def _words(data: bytes) -> str:
    try:
        return data.partition(b"\0")[0].decode()
    except UnicodeDecodeError as error:
        raise BadArtifact("the layer holds a file name that is no UTF-8") from error


def _number(data: bytes) -> int:
    """A number in octal digits, or as GNU writes large ones: in base 256 behind a set bit."""
    if data[0] & 0x80:
        value = int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
        if data[0] & 0x40 or value > _MAX_SIZE:
            raise BadArtifact("the layer is no sound tar archive: a number in a header is out of range")
        return value
    digits = data.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise BadArtifact("the layer is no sound tar archive: a number in a header is none")
    return int(digits or b"0", 8)


def _decimal(digits: str, what: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise BadArtifact(
            f"the layer is no sound tar archive: {what} in an extended header is {digits[:40]!a}"
        )
    return int(digits)
