#!/usr/bin/env python3
"""Publishes one request from stdin, and returns only once the broker has stored it.

Stopped in the middle, or at an error: run it again with the same request. Its id makes that safe.
"""

import argparse
import json
import sys
from pathlib import Path

import pika

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("url_file", type=Path, help="holds amqps://user:password@host/vhost")
parser.add_argument("lane", nargs="?", choices=["tickets", "batch"], default="tickets", help="batch for mass resets")
parser.add_argument("exchange", nargs="?", default="mfa.requests", help="another where broker.prefix is not mfa")
parser.add_argument("--allow-plain", action="store_true", help="the broker may be reached without TLS, by amqp://")
options = parser.parse_args()

parameters = pika.URLParameters(options.url_file.read_text().strip())
if not (parameters.ssl_options or options.allow_plain or parameters.host in ("127.0.0.1", "::1", "localhost")):
    raise SystemExit("the broker's address has to be amqps://, or --allow-plain be given")
request = json.load(sys.stdin)

with pika.BlockingConnection(parameters) as connection:
    channel = connection.channel()
    channel.confirm_delivery()  # from here on an unconfirmed or unroutable message is an exception
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,  # on disk
        message_id=request["id"],
        correlation_id=request["ticket"]["number"],  # comes back with the result
        user_id=parameters.credentials.username,  # checked by the broker
    )
    lane = {"tickets": "reset", "batch": "batch"}[options.lane]
    channel.basic_publish(options.exchange, lane, json.dumps(request).encode(), properties, mandatory=True)
print("stored:", request["id"])
