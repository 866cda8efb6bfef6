#!/usr/bin/env python3
"""Prints the SHA-256 of a text, asked of a hashcluster controller: docs/protocol.md at work.

Usage: client.py SOCKET TEXT
"""
import socket
import struct
import sys

MAGIC, VERSION, SHA256, INLINE = b"HCL\x01", 7, 1, 1
OPEN, ITEMS, FINISH = 0, 1, 3  # requests
OPENED, WINDOW, RESULTS, FINISHED, REJECTED = 0, 1, 2, 3, 7  # replies
WIDTHS = {251: "<H", 252: "<I", 253: "<Q"}  # the first byte of a number above 250


def number(n):
    if n <= 250:
        return bytes([n])
    mark = 251 if n < 1 << 16 else 252 if n < 1 << 32 else 253
    return bytes([mark]) + struct.pack(WIDTHS[mark], n)


def blob(data):
    return number(len(data)) + data


class Body:
    """Reads the fields of one message from left to right."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        if self.at > len(self.data):
            raise ValueError("cut message")
        return self.data[self.at - length : self.at]

    def number(self):
        first = self.take(1)[0]
        if first <= 250:
            return first
        return struct.unpack(WIDTHS[first], self.take(struct.calcsize(WIDTHS[first])))[0]

    def blob(self):
        return self.take(self.number())


def send(stream, body):
    stream.sendall(struct.pack("<I", len(body)) + body)


def receive(stream):
    (length,) = struct.unpack("<I", stream.recv(4, socket.MSG_WAITALL).ljust(4, b"\0"))
    if not 1 <= length <= 1 << 20:
        raise ValueError("closed, or a frame of a length that is not taken")
    return Body(stream.recv(length, socket.MSG_WAITALL))


def digest(path, message):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        intro = number(0) + blob(b"client.py") + blob(b"")  # a client, its version, no token
        send(stream, MAGIC + number(VERSION) + number(VERSION) + intro)
        reply = receive(stream)
        if reply.number() != 0:
            reason, text = reply.number(), reply.blob()
            raise ValueError(f"refused ({reason}): {text.decode()}")
        # Any number to know the answer by, one algorithm, no cross-checks, no strict reads.
        send(stream, number(OPEN) + number(0) + number(1) + number(SHA256) + number(0) + bytes([0]))
        sent, output = False, None
        while True:
            reply = receive(stream)
            tag = reply.number()
            if tag in (OPENED, REJECTED):
                reply.number()  # ours of the request
            if tag != REJECTED:
                job = number(reply.number()) + number(reply.number())
            if tag in (OPENED, WINDOW) and not sent:
                if reply.number() >= 1 and reply.number() >= len(message):
                    items = number(INLINE) + number(1) + number(len(message)) + blob(message)
                    send(stream, number(ITEMS) + job + number(0) + items)
                    send(stream, number(FINISH) + job)
                    sent = True
            elif tag == RESULTS:
                for _ in range(reply.number()):
                    _first, _len = reply.number(), reply.number()
                output = reply.blob()
                if reply.number() > 0:
                    _position, failure = reply.number(), reply.number()
                    raise ValueError(f"no digest: failure {failure}")
            elif tag == FINISHED:
                return output.hex()
            elif tag == REJECTED:
                reason, text = reply.number(), reply.blob()
                raise ValueError(f"rejected ({reason}): {text.decode()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(digest(sys.argv[1], sys.argv[2].encode()))
    except (OSError, ValueError) as error:
        sys.exit(f"client.py: {sys.argv[1]}: {error}")
