"""The emulated service's HTTP, with control over the connection for the faults.

The routes and their rules are those of D-Wave's page "SAPI REST Interface"
(docs.dwavequantum.com/en/latest/leap_sapi/sapi_rest.html), which is [rest] below.
"""

import hmac
import json
import logging
import os
import socket
import ssl
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from qattn.hardware.emulator.api import RequestError, SolverAPI, error_body
from qattn.hardware.emulator.faults import Fault
from qattn.hardware.emulator.jobs import Job

PREFIX = "/sapi/v2/"
"""Path of the endpoint."""

ELSEWHERE = "/redirected"
"""Path, on another name of this host, to which the fault "redirect" sends requests."""

MAX_BODY = 64 * 2**20
"""Largest body in bytes, as it is sent and after it is inflated; twenty problems of the largest
processor take about 20 MiB."""

VERSION = "3.0.0"
"""Version of the API's media types."""

log = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1 only, one thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, api: SolverAPI, token: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self.api = api
        self.token = token
        self._tls = tls
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, to close it at the end."""
        self._connections.add(request)
        super().process_request(request, client_address)

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.server_port}"

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its own thread; TLS begins there, so that none waits for it."""
        if self._tls is not None:
            self._connections.discard(request)
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except OSError:
                return self.handle_error(request, client_address)
            self._connections.add(request)
        return super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log at DEBUG only: a client that went away is not an error of the server."""
        log.debug("connection from %s ended", client_address, exc_info=True)

    def close(self) -> None:
        """Stop serving and close every connection."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("connection was closed already")


class Response:
    """Body and media type of an answered request."""

    def __init__(self, body: str, media: str, status: int = 200, job: Job | None = None) -> None:
        self.body, self.media, self.status, self.job = body.encode(), media, status, job


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "qattn-emulated-qpu"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """One line at DEBUG; the token is in a header, which is never logged."""
        log.debug(format, *args)

    def do_GET(self) -> None:
        """Answer a request of any kind: GET, POST (submissions) or DELETE (cancellations)."""
        url = urlsplit(self.path)
        if url.path.startswith(ELSEWHERE):
            self.server.api.redirects_followed += 1
        query = dict(parse_qsl(url.query))
        path = unquote(url.path.removeprefix(PREFIX)).strip("/")
        where = _kind_of_request(self.command, path, query)
        token = self.headers.get("X-Auth-Token", "")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return self._refuse(_error_response(401, "Invalid token or access denied"))
        try:
            body = self._read_body()
        except RequestError as error:
            return self._refuse(_error_response(error.status, str(error)))
        fault = self.server.api.faults.next(where)
        if fault is not None:
            log.debug("fault %s:%s", fault.where, fault.kind)
        if fault is not None and not fault.handled:
            return self._fail(fault, None)
        if fault is not None and fault.kind == "slow-accept":
            self.server.stopping.wait(fault.seconds)
        try:
            response = self._respond(where, path, query, body)
        except RequestError as error:
            response = _error_response(error.status, str(error))
        except (ValueError, KeyError, TypeError, zlib.error, OSError) as error:
            response = _error_response(400, f"Bad request: {error}")
        return self._send(response) if fault is None else self._fail(fault, response)

    do_POST = do_DELETE = do_GET

    def _respond(self, where: str, path: str, query: dict[str, str], body: bytes) -> Response:
        api = self.server.api
        if where == "solvers":
            name = path.removeprefix("solvers/remote").strip("/") or None
            media = "solver-definition-list" if name is None else "solver-definition"
            return Response(api.solvers(name, query.get("filter", "all")), media)
        if where == "submit":
            submitted = json.loads(body)
            if isinstance(submitted, list):
                return Response(json.dumps(api.submit(submitted)), "problems")
            return Response(json.dumps(api.submit([submitted])[0]), "problems")
        if where == "poll":
            ids = query["id"].split(",")
            statuses = api.poll(ids, _timeout(query))
            return Response(json.dumps(statuses), "problems")
        if where == "list":
            return Response(json.dumps(api.listing(query, _timeout(query))), "problems")
        id_ = path.removeprefix("problems").strip("/")
        if where == "answer":
            api.poll([id_], _timeout(query))
            job, text = api.problem(id_)
            return Response(text, "problem", job=job)
        if where == "cancel":
            if id_:
                return Response(json.dumps(api.cancel([id_])[0]), "problem")
            return Response(json.dumps(api.cancel(json.loads(body))), "problems")
        raise RequestError(404, f"No such resource: {path}")

    def _fail(self, fault: Fault, response: Response | None) -> None:
        if fault.kind.startswith("drop"):
            self.close_connection = True
            return None
        if fault.kind == "redirect":
            other = self.server.address.replace("127.0.0.1", "localhost")
            return self._send(Response("", "", 307), location=f"{other}{ELSEWHERE}{self.path}")
        if fault.status is not None:
            return self._send(_error_response(fault.status, f"Emulated fault {fault.status}"))
        assert response is not None
        if fault.kind == "slow":
            self.server.stopping.wait(fault.seconds)
            return self._send(response)
        if fault.kind == "slow-accept":
            return self._send(response)
        if fault.kind == "no-answer" and response.job is not None:
            text = self.server.api.problem(response.job.id, with_answer=False)[1]
            return self._send(Response(text, "problem"))
        response.job = None  # what follows is no answer
        if fault.kind == "tls":
            self.close_connection = True
            # Application data (23) of TLS 1.2 or 1.3, 64 bytes that no key has encrypted.
            os.write(self.connection.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
            return None
        if fault.kind == "corrupt":
            response.body = b'{"corrupt": ' + response.body[: len(response.body) // 2]
        elif fault.kind == "corrupt-answer":
            response.body = response.body.replace(b'"solutions": "', b'"solutions": "A*/')
        return self._send(
            response,
            version="1.0.0" if fault.kind == "version" else VERSION,
            truncated=fault.kind == "truncated",
        )

    def _send(
        self,
        response: Response,
        version: str = VERSION,
        truncated: bool = False,
        location: str | None = None,
    ) -> None:
        self.send_response(response.status)
        if location is not None:
            self.send_header("Location", location)
        media = f"application/vnd.dwave.sapi.{response.media}+json; version={version}"
        self.send_header("Content-Type", media if response.media else "application/json")
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if truncated:
            self.wfile.write(response.body[: len(response.body) // 2])
            self.close_connection = True
            return
        # Count before sending: once a client has the answer, the account must include it.
        job = response.job
        if job is not None and job.answer is not None and b'"answer": ' in response.body:
            self.server.api.queue.answered(job)
        self.wfile.write(response.body)
        self.wfile.flush()

    def _refuse(self, response: Response) -> None:
        """Respond without using the body, of which no more than a bounded part is read."""
        self.close_connection = True
        self._send(response)
        self.connection.settimeout(1.0)
        left = MAX_BODY if self.headers.get("Content-Length", "0") != "0" else 0
        try:  # a client that is still sending would not see the response
            while left > 0 and (block := self.rfile.read1(2**16)):
                left -= len(block)
        except OSError:
            log.debug("the client of a refused request went on sending")

    def _read_body(self) -> bytes:
        """The body, inflated.

        Raises:
            RequestError: It is too large, or not what the headers say.
        """
        try:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = self._read_chunks()
            else:
                body = self._read(int(self.headers.get("Content-Length") or 0))
            encoding = self.headers.get("Content-Encoding", "").lower()
            return _inflated(body, encoding) if encoding in ("deflate", "gzip") else body
        except (ValueError, zlib.error) as error:
            raise RequestError(400, f"Bad request: {error}") from None

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline(100).split(b";")[0], 16):
            body += self._read(size, len(body))
            self.rfile.readline(100)
        self.rfile.readline(100)
        return bytes(body)

    def _read(self, size: int, before: int = 0) -> bytes:
        if size < 0:
            raise RequestError(400, f"Bad request: a body of {size} bytes")
        if before + size > MAX_BODY:
            raise RequestError(413, f"Bodies may have {MAX_BODY} bytes")
        return self.rfile.read(size)


def _kind_of_request(command: str, path: str, query: dict[str, str]) -> str:
    """The kind of a request among ``faults.REQUESTS``, or "unknown"."""
    if command == "GET" and path.startswith("solvers/remote"):
        return "solvers"
    if path != "problems" and not path.startswith("problems/"):
        return "unknown"
    if command == "DELETE":
        return "cancel"
    if command == "POST":
        return "submit" if path == "problems" else "unknown"
    if path == "problems":
        return "poll" if "id" in query else "list"
    return "answer"


def _error_response(status: int, message: str) -> Response:
    return Response(json.dumps(error_body(status, message)), "", status)


def _inflated(body: bytes, encoding: str) -> bytes:
    inflate = zlib.decompressobj(zlib.MAX_WBITS if encoding == "deflate" else 16 + zlib.MAX_WBITS)
    inflated = inflate.decompress(body, MAX_BODY)
    if inflate.unconsumed_tail:
        raise RequestError(413, f"Bodies may have {MAX_BODY} bytes")
    if not inflate.eof:
        raise ValueError("the compressed body is not complete")
    return inflated


def _timeout(query: dict[str, str]) -> float | None:
    """Seconds for which a response may be held back; None means the default.

    [rest] "List Problems": an integer from 1 to 30; 400 for any other value.
    """
    text = query.get("timeout")
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 30:
        raise RequestError(400, f"timeout must be an integer between 1 and 30, but is {text!r}")
    return float(text)
