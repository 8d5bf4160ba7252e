#!/usr/bin/env python3
"""Writes what became of MFA resets back to their tickets in ServiceNow: a work note, and the state.

Safe to repeat: each note ends with the id of its event, and before anything is written the ticket's journal is searched
for that id. Note and state go in one PATCH, and the event is acknowledged after it. What no ticket can be found for, or
what ServiceNow refuses, is put into a file for a person; `--again FILE` takes events from such a file.
"""

import argparse
import json
import logging
import os
import re
import signal
import threading
import unicodedata
from pathlib import Path

import pika

from servicenow import Refused, ServiceNow, Unavailable

HERE = Path(__file__).parent
# Anybody who may publish gets such an answer, for whatever ticket the message names: the ticket hears of it, in fixed words.
UNPROVED = ("malformed", "producer_not_allowed", "id_reused", "unsupported_kind")
UNPROVED_NOTE = "A request for an MFA reset that names this ticket was refused ({}). Nothing was done, and nothing shows that it was made here."
log = logging.getLogger("write_back")
stop = threading.Event()


def clean(text):
    """Text for a journal: no control characters but line breaks, no markup, nothing that looks like the id of an event."""
    plain = "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    plain = re.sub(r"\[(/?code)\]", r"(\1)", plain, flags=re.IGNORECASE).replace("<", "\u2039")
    return re.sub("mfa-reset event", "mfa-reset's event", plain, flags=re.IGNORECASE)


def unproved(data):
    return data.get("outcome") == "rejected" or data["reason_code"] in UNPROVED


def may_change(state, data, options):
    expected = not options.only_from or state in options.only_from
    return expected and state not in options.map["final"] and not unproved(data)


def write_back(servicenow, options, event):
    """Writes one event to its ticket, unless it is there already."""
    data = event["data"]
    if data["ticket_system"] != options.system:
        raise Refused("a ticket of another system")
    record = servicenow.ticket(options.table, data)
    if servicenow.has_note(record["sys_id"], event["id"]):
        return "was there"
    note = UNPROVED_NOTE.format(clean(data["reason_code"])) if unproved(data) else clean(data["work_note"])
    change = {"work_notes": f"{note}\n\nmfa-reset event {event['id']}"}
    if may_change(record["state"], data, options):  # an unknown outcome, or a delay, changes no state
        fields = options.map["outcomes"].get(data.get("outcome"), {}).get("fields", {})
        change |= {name: value.replace("{summary}", clean(data.get("summary", ""))) for name, value in fields.items()}
    servicenow.call("PATCH", f"{options.table}/{record['sys_id']}", change, sysparm_fields="sys_id")
    if not servicenow.has_note(record["sys_id"], event["id"]):
        log.error("the note cannot be read back: may the user read sys_journal_field? Repeats make more notes until then")
    return "written"


def private(path, flags):
    return os.open(path, flags, 0o600)  # events are about people


def settle(servicenow, options, body, sleep):
    """Writes or parks one event, however long it takes; false where the program has to stop before."""
    tries, failed_writes = 0, 0
    while not stop.is_set():
        try:
            event = json.loads(body)
            if not re.fullmatch(r"[0-9a-f-]{36}", event["id"]) or not event["type"].startswith("mfa-reset."):
                raise Refused("not an event of mfa-reset")
            log.info("event %s: %s", event["id"], write_back(servicenow, options, event))
            return True
        except (Refused, ValueError, KeyError, TypeError, AttributeError) as error:
            why = str(error) if isinstance(error, Refused) else f"not a result event ({type(error).__name__})"
        except Unavailable as error:
            tries, failed_writes = tries + 1, failed_writes + error.writing
            if failed_writes < options.give_up_after:
                wait = max(error.after, min(2**tries, 60))
                log.warning("%s: again in %d s", error, wait)
                sleep(wait)
                continue
            why = str(error)
        with open(options.parked, "a", encoding="utf-8", opener=private) as file:
            file.write(json.dumps({"why": why, "body": body.decode(errors="replace")}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        log.error("parked: %s", why)
        return True
    return False


def broker(options):
    parameters = pika.URLParameters(options.broker_url_file.read_text().strip())
    if not (parameters.ssl_options or options.allow_plain or parameters.host in ("127.0.0.1", "::1", "localhost")):
        raise SystemExit("the broker's address has to be amqps://, or --allow-plain be given")
    return parameters


def consume(servicenow, options):
    with pika.BlockingConnection(broker(options)) as connection:
        work(servicenow, options, connection)


def work(servicenow, options, connection):
    channel = connection.channel()

    def sleep(seconds):  # with an eye on heartbeats and on the signal to stop
        for _ in range(seconds):
            if not stop.is_set():
                connection.sleep(1)
            if channel.is_closed:  # after half an hour the broker takes the event back, and another consumer may have it
                raise pika.exceptions.ChannelWrongStateError()

    channel.basic_qos(prefetch_count=1)
    # Two consumers could both look before either writes, and quorum queues do not enforce exclusive consumers.
    while channel.queue_declare(options.queue, passive=True).method.consumer_count and not stop.is_set():
        log.info("another consumer is at work: standing by")
        sleep(2)
    for method, _, body in channel.consume(options.queue, inactivity_timeout=0.5):
        if stop.is_set() or (method and not settle(servicenow, options, body, sleep)):
            break  # what is not acknowledged comes again
        if method:
            channel.basic_ack(method.delivery_tag)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--broker-url-file", type=Path, required=True, help="holds amqps://user:password@host/vhost")
    add("--allow-plain", action="store_true", help="the broker may be reached without TLS, by amqp://")
    add("--instance", required=True, help="such as https://contoso.service-now.com")
    add("--user", required=True, help="the user of the Table API")
    add("--password-file", type=Path, required=True)
    add("--parked", type=Path, required=True, help="the file for what a person has to look at")
    add("--queue", default="mfa.results")
    add("--system", default="servicenow", help="the ticket.system of the requests")
    add("--table", default="incident")
    add("--states", type=Path, default=HERE / "states.json", help="what each outcome means for a ticket")
    add("--only-from", action="append", metavar="STATE", help="change the state of records in this state only; may be repeated")
    add("--give-up-after", type=int, default=8, metavar="N", help="failed writes of one event, while ServiceNow answers")
    add("--again", type=Path, metavar="FILE", help="takes events from such a file, not from the broker")
    options = parser.parse_args()
    options.map = json.loads(options.states.read_text())
    return options


def main():
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    servicenow = ServiceNow(options.instance, options.user, options.password_file.read_text().strip())
    if options.again:
        for line in options.again.read_text().splitlines():
            settle(servicenow, options, json.loads(line)["body"].encode(), stop.wait)
        return
    while not stop.is_set():
        try:
            consume(servicenow, options)
        except (pika.exceptions.AMQPError, OSError) as error:
            log.warning("%s: connecting to the broker again", type(error).__name__)
            stop.wait(5)


if __name__ == "__main__":
    main()
