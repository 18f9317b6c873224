"""A small client of the server's HTTP API: JSON, streamed uploads and downloads, event streams."""

import hashlib
import http.client
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .terminal import DemoError

CHUNK_BYTES = 1 << 20
# Longer than any single answer should take; an import of 60 million weights is the slowest.
TIMEOUT_SECONDS = 300


class Refused(DemoError):
    """The server understood a request and refuses it as it is (422)."""


class Api:
    """The server at `host:port`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._host = address.removeprefix("http://")

    def get(self, path: str) -> Any:
        """Reads JSON."""
        return self._json("GET", path)

    def post(self, path: str, body: Any) -> Any:
        """Sends and reads JSON."""
        headers = {"Content-Type": "application/json"}
        return self._json("POST", path, json.dumps(body).encode(), headers)

    def post_bytes(self, path: str, body: bytes) -> Any:
        """Sends bytes as they are."""
        return self._json("POST", path, body, {"Content-Type": "application/octet-stream"})

    def upload(self, path: str, file: Path, query: dict[str, str]) -> Any:
        """Streams a file as the body."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.stat().st_size),
        }
        with file.open("rb") as stream:
            body = iter(lambda: stream.read(CHUNK_BYTES), b"")
            return self._json("POST", f"{path}?{urlencode(query)}", body, headers)

    def upload_form(self, path: str, fields: dict[str, str], file: Path) -> Any:
        """Streams a multipart form: the fields, then the file as the part `file`."""
        boundary = uuid.uuid4().hex
        head = b""
        for name, value in fields.items():
            head += (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            ).encode()
        head += (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def parts() -> Iterator[bytes]:
            yield head
            with file.open("rb") as stream:
                yield from iter(lambda: stream.read(CHUNK_BYTES), b"")
            yield tail

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + file.stat().st_size + len(tail)),
        }
        return self._json("POST", path, parts(), headers)

    def download(self, path: str, target: Path) -> tuple[str, int, int]:
        """Streams an answer to a file; gives its SHA-256, its length and the length announced."""
        connection, answer = self._open("GET", path)
        announced = int(answer.headers.get("Content-Length", -1))
        digest, length = hashlib.sha256(), 0
        with target.open("wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                digest.update(chunk)
                length += len(chunk)
                file.write(chunk)
        connection.close()
        return digest.hexdigest(), length, announced

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Follows an event stream to its end, resuming after the last event when it breaks."""
        last, failures = "", 0
        while True:
            try:
                for sequence, event in self._event_stream(path, last):
                    last, failures = sequence, 0
                    yield event
                return
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                if failures > 3:
                    raise DemoError(f"the event stream of {path} broke: {error}") from error

    def _event_stream(self, path: str, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        connection, answer = self._open("GET", path, None, headers)
        sequence, data = "", ""
        for raw in answer:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("id:"):
                sequence = line[3:].strip()
            elif line.startswith("data:"):
                data += line[5:].removeprefix(" ")
            elif not line and data:
                yield sequence, json.loads(data)
                data = ""
        connection.close()

    def _json(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        connection, answer = self._open(method, path, body, headers)
        text = answer.read()
        connection.close()
        return json.loads(text) if text else None

    def _open(
        self, method: str, path: str, body: Any = None, headers: Any = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT_SECONDS)
        refused: OSError | None = None
        try:
            connection.request(method, path, body, headers or {})
        except (BrokenPipeError, ConnectionResetError) as error:
            refused = error  # The server may have answered before it read all of the body.
        try:
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"{method} {path}: no answer: {refused or error}") from error
        if answer.status >= 400:
            kind = Refused if answer.status == 422 else DemoError
            raise kind(f"{method} {path}: {problem(answer)}")
        return connection, answer


def problem(answer: http.client.HTTPResponse) -> str:
    """What a problem document says, in one or a few lines."""
    text = answer.read().decode(errors="replace")
    try:
        document = json.loads(text)
        lines = [f"{answer.status} {document.get('code')}: {document.get('detail')}"]
        for error in document.get("errors") or []:
            lines.append(f"  {error.get('pointer')}: {error.get('detail')}")
        return "\n".join(lines)
    except (json.JSONDecodeError, AttributeError):
        return f"{answer.status} {text[:500]}"
