# An HTTP/3 client that does what a test tells it (KV/Http3.pm), and reads
# slowly if it is told to.  Needs aioquic.
#
#     python3 h3.py PORT
#
# Takes a command a line, a list in JSON: its name and its arguments.  Answers
# each with a line, an object in JSON, with "error" in it if it did not happen
# in time.  Ends when standard input does.

import json
import os
import select
import socket
import ssl
import sys
import time

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamReset

WINDOW = 32768              # what the server may send on a stream of a reader
BEGINNING = 20000           # a reader has that much of a body when it stops
PATIENCE = 30               # seconds
CANCELLED = 0x10C           # H3_REQUEST_CANCELLED


class Quic(QuicConnection):
    """Raises no stream's window while it is held."""

    held = False

    def _write_stream_limits(self, *args, **named):
        if not self.held:
            super()._write_stream_limits(*args, **named)


class Http3(H3Connection):
    """Accepts an answer to HEAD that has a length, and no bytes."""

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.heads = set()

    def _check_content_length(self, stream):
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class Answer:
    def __init__(self):
        self.headers = {}
        self.body = bytearray()
        self.end = None     # "whole", "reset", or "closed": the connection


class Connection:
    def __init__(self, port, window):
        self.quic = Quic(configuration=QuicConfiguration(
            alpn_protocols=H3_ALPN, is_client=True, server_name="localhost",
            max_stream_data=window, idle_timeout=600,
            verify_mode=ssl.CERT_NONE))
        self.h3 = Http3(self.quic)
        self.answers = {}
        self.address = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(self.address)
        self.quic.connect(self.address, now=time.monotonic())

    def request(self, method, path, body=None, length=None, part=False):
        """The first one is on stream 0. Without a length none is said."""
        stream = self.quic.get_next_available_stream_id()
        headers = {":method": method, ":scheme": "https",
                   ":authority": "localhost", ":path": path,
                   "accept-encoding": "gzip"}
        if length is not None:
            headers["content-length"] = str(length)

        if method == "HEAD":
            self.h3.heads.add(stream)

        self.answers[stream] = answer = Answer()
        self.h3.send_headers(stream, [(k.encode(), v.encode())
                                      for k, v in headers.items()],
                             end_stream=body is None)
        if body is not None:
            self.h3.send_data(stream, body, end_stream=not part)

        return answer

    def timeout(self):
        timer = self.quic.get_timer()
        return None if timer is None else timer - time.monotonic()

    def in_flight(self):
        return self.quic._loss.bytes_in_flight

    def serve(self):
        """Reads a part of what there is, and sends what is due."""
        for _ in range(16):
            try:
                data = self.socket.recv(65536)
            except OSError:
                break
            self.quic.receive_datagram(data, self.address, time.monotonic())

        timeout = self.timeout()
        if timeout is not None and timeout <= 0:
            self.quic.handle_timer(time.monotonic())

        while (event := self.quic.next_event()) is not None:
            self.handle(event)

        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            try:
                self.socket.send(data)
            except OSError:
                pass        # lost: it is sent again

    def handle(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.finish(event.stream_id, "reset")
        elif isinstance(event, ConnectionTerminated):
            for stream in self.answers:
                self.finish(stream, "closed")

        for part in self.h3.handle_event(event):
            answer = self.answers.get(part.stream_id)
            if answer is None:
                continue
            if isinstance(part, HeadersReceived):
                answer.headers = {k.decode(): v.decode()
                                  for k, v in part.headers}
            elif isinstance(part, DataReceived):
                answer.body += part.data
            if part.stream_ended:
                self.finish(part.stream_id, "whole")

    def finish(self, stream, end):
        self.answers[stream].end = self.answers[stream].end or end


class Client:
    def __init__(self, port):
        self.port = port
        self.connections = {}
        self.input = b""

    def run(self):
        while (line := self.line()) is not None:
            name, *args = json.loads(line)
            try:
                answer = getattr(self, "do_" + name)(*args)
            except TimeoutError:
                answer = {"error": "not in time: " + line.decode()}
            print(json.dumps(answer), flush=True)

    def line(self):
        """The next command, or None; meanwhile all connections go on."""
        while b"\n" not in self.input:
            if self.serve(sys.stdin.fileno()):
                data = os.read(sys.stdin.fileno(), 65536)
                if not data:
                    return None
                self.input += data

        line, self.input = self.input.split(b"\n", 1)
        return line

    def serve(self, *files):
        """Waits for something to do.  True: one of the files can be read."""
        connections = self.connections.values()
        times = [t for c in connections if (t := c.timeout()) is not None]
        wait = max(min(times + [1]), 0)
        ready, _, _ = select.select([*files, *(c.socket for c in connections)],
                                    [], [], wait)
        for connection in connections:
            connection.serve()

        return any(file in ready for file in files)

    def wait(self, condition):
        for connection in self.connections.values():
            connection.serve()

        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError
            self.serve()

    # commands

    def do_open(self, name, path):
        """A reader: a connection that stops in the middle of a value."""
        connection = Connection(self.port, WINDOW)
        connection.quic.held = True
        self.connections[name] = connection
        answer = connection.request("GET", path)
        self.wait(lambda: answer.end or len(answer.body) > BEGINNING)
        return {"headers": answer.headers, "got": len(answer.body)}

    def do_stream(self, name, path):
        """A new connection with an answer that does not end: its beginning."""
        connection = self.connections[name] = Connection(self.port, 1 << 20)
        answer = connection.request("GET", path)
        self.wait(lambda: answer.end or answer.body)
        return {"headers": answer.headers, "body": answer.body.decode()}

    def do_stop(self, name):
        """STOP_SENDING for what the reader reads; the server answers it."""
        connection = self.connections[name]
        connection.quic.stop_stream(0, CANCELLED)
        self.wait(lambda: connection.answers[0].end)
        return {"end": connection.answers[0].end}

    def do_reset(self, name):
        """RESET_STREAM for the request; the server gives it up, too."""
        connection = self.connections[name]
        connection.quic.reset_stream(0, CANCELLED)
        self.wait(lambda: connection.answers[0].end)
        return {"end": connection.answers[0].end}

    def do_close(self, name):
        """CONNECTION_CLOSE, and nothing after it.

        It is sent once: first the server reads all that came before, so that
        its socket is not full.
        """
        connection = self.connections[name]
        self.wait(lambda: not connection.in_flight())
        del self.connections[name]
        connection.quic.close(error_code=CANCELLED)
        connection.serve()
        connection.socket.close()
        return {"got": len(connection.answers[0].body)}

    def do_ended(self, *names):
        """How the answers of these readers have ended, null for not yet."""
        return {n: self.connections[n].answers[0].end for n in names}

    def do_read(self, name, file):
        """The reader reads on, to the end."""
        connection = self.connections[name]
        connection.quic.held = False
        self.wait(lambda: connection.answers[0].end)
        with open(file, "wb") as out:
            out.write(connection.answers[0].body)
        return {"end": connection.answers[0].end}

    def do_begin(self, name, path, length, sent):
        """A new connection with a PUT of which only a part is sent."""
        connection = self.connections[name] = Connection(self.port, WINDOW)
        with open(sent, "rb") as file:
            connection.request("PUT", path, file.read(), length, part=True)
        return {}

    def do_request(self, name, method, path, sent, got, length=True):
        """One more request on a connection, which may be a new one.

        Files: the body to send, or null; and where the answer's body goes.
        """
        if name not in self.connections:
            self.connections[name] = Connection(self.port, 1 << 20)

        body = None
        if sent is not None:
            with open(sent, "rb") as file:
                body = file.read()

        connection = self.connections[name]
        connection.quic.held = False
        answer = connection.request(
            method, path, body,
            len(body) if body is not None and length else None)
        self.wait(lambda: answer.end)
        with open(got, "wb") as file:
            file.write(answer.body)
        return {"headers": answer.headers, "end": answer.end}


Client(int(sys.argv[1])).run()
