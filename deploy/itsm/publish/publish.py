#!/usr/bin/env python3
"""Publishes one request from stdin, and returns only once the broker has stored it: publish.py URL_FILE [tickets|batch]

Stopped in the middle, or at an error: run it again with the same request. Its id makes that safe.
"""

import json
import sys
from pathlib import Path

import pika

parameters = pika.URLParameters(Path(sys.argv[1]).read_text().strip())
lane = {"tickets": "reset", "batch": "batch"}[sys.argv[2] if len(sys.argv) > 2 else "tickets"]
exchange = sys.argv[3] if len(sys.argv) > 3 else "mfa.requests"
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
    channel.basic_publish(exchange, lane, json.dumps(request).encode(), properties, mandatory=True)
print("stored:", request["id"])
