#!/usr/bin/env python3
"""Moves what waits in a queue to the end of a file, a line for each message, and ends when the queue is empty.

For mfa.audit and mfa.results, which grow until somebody does this. Run it by a timer. A message leaves the broker once it is
on disk; stopped in between, it comes again, so a line may be there twice.
"""

import argparse
import fcntl
import os
from pathlib import Path

import pika

BATCH = 500
LONGEST = 16 * 1024 * 1024  # no message of ours comes near


def opened(path):
    """The file, for nobody else to read or to write at the same time, behind its last whole line."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    fcntl.flock(file, fcntl.LOCK_EX)
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - LONGEST))
    end = start + file.read().rfind(b"\n") + 1  # what a crash has left of a line comes again
    file.truncate(end)
    file.seek(end)
    return file


def move(channel, queue, file):
    """Moves one batch; false where the queue was empty."""
    tag = None
    for _ in range(BATCH):
        method, _, body = channel.basic_get(queue)
        if method is None:
            break
        tag = method.delivery_tag
        file.write(body.replace(b"\n", b" ") + b"\n")
    if tag is not None:
        file.flush()
        os.fsync(file.fileno())
        channel.basic_ack(tag, multiple=True)
    return tag is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url_file", type=Path, help="holds amqps://user:password@host/vhost")
    parser.add_argument("queue")
    parser.add_argument("file", type=Path)
    parser.add_argument("--allow-plain", action="store_true", help="the broker may be reached without TLS, by amqp://")
    options = parser.parse_args()
    parameters = pika.URLParameters(options.url_file.read_text().strip())
    if not (parameters.ssl_options or options.allow_plain or parameters.host in ("127.0.0.1", "::1", "localhost")):
        raise SystemExit("the broker's address has to be amqps://, or --allow-plain be given")
    with opened(options.file) as file, pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        while move(channel, options.queue, file):
            pass


if __name__ == "__main__":
    main()
