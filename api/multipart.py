"""Forms whose file is larger than memory: read part by part as they arrive."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from catchment.errors import InvalidField
from catchment.store.batch import Piece

FIELD_BYTES = 1 << 20
"""The most that a field, which is kept in memory, may hold."""
_MAX_FIELDS = 32


class StreamedForm:
    """A multipart form with one file that is streamed, and small fields around it.

    Args:
        arriving: the request's body.
        content_type: of the request.
        file_name: name of the field that is the file.

    Raises:
        InvalidField: the request is no such form.
    """

    def __init__(self, arriving: AsyncIterator[Piece], content_type: str, file_name: str = "file") -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not re.fullmatch(rb"[!-~]{1,70}", boundary):
            raise InvalidField("Content-Type", "must be multipart/form-data with a boundary")
        self._arriving = arriving
        self._file_name = file_name
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )
        self.fields: dict[str, str] = {}
        """The fields read so far; complete when the file's pieces have been."""
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._value = bytearray()
        self._pieces: list[bytes] = []
        self._files = 0
        self._over = False

    async def file(self) -> AsyncIterator[Piece]:
        """The file's bytes as they arrive; after the last the whole form has been read.

        Raises:
            InvalidField: there is no file in the form, or the form is none.
        """
        async for piece in self._arriving:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise InvalidField("body", f"is no multipart form: {error}") from None
            pieces, self._pieces = self._pieces, []
            for part in pieces:
                yield part
        if not self._over:
            raise InvalidField("body", "is cut off: the form's last boundary is missing")
        if not self._files:
            raise InvalidField(self._file_name, "is required: the form holds no such part")

    def _on_part_begin(self) -> None:
        self._headers, self._value = {}, bytearray()

    def _on_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise InvalidField("body", "has a part without a name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if self._name == self._file_name:
            self._files += 1
        if self._files > 1 or self._name in self.fields or len(self.fields) >= _MAX_FIELDS:
            raise InvalidField(self._name[:80], "is given twice, or the form has too many parts")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_name:
            self._pieces.append(bytes(data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise InvalidField(self._name[:80], f"is longer than {FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._name != self._file_name:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _on_end(self) -> None:
        self._over = True
