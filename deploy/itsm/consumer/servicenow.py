"""The few calls of ServiceNow's Table API that the consumer makes, and what their failures mean for an event."""

import base64
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request


class Refused(Exception):
    """It will not pass: this event is for a person."""


class Unavailable(Exception):
    """It may pass: the same event again, after a while."""

    def __init__(self, why, after=None, writing=False):
        super().__init__(why)
        self.after = int(after) if (after or "").isdigit() else 0
        self.writing = writing


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None  # nobody else gets the password


class ServiceNow:
    """The few calls of the Table API that are needed."""

    def __init__(self, instance, user, password):
        if not re.match(r"https://|http://(127\.0\.0\.1|localhost)(:\d+)?(/|$)", instance):
            raise SystemExit("--instance has to be https://")
        if "^" in user:
            raise SystemExit("--user may have no ^: it becomes part of a query")
        self.user = user
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.root = instance.rstrip("/") + "/api/now/table/"
        self.headers = {"Authorization": f"Basic {basic}", "Accept": "application/json", "Content-Type": "application/json"}
        self.opener = urllib.request.build_opener(NoRedirect)

    def call(self, method, path, body=None, **query):
        url = f"{self.root}{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, self.headers, method=method)
        try:
            with self.opener.open(request, timeout=20) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            why = f"{method} {path.split('/')[0]} answers {error.code}"
            if error.code < 400 or error.code in (401, 408, 429) or error.code >= 500:  # below 400: a page of maintenance
                failed_write = method == "PATCH" and error.code >= 500
                raise Unavailable(why, error.headers.get("Retry-After"), failed_write) from None
            raise Refused(why) from None
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            raise Unavailable(f"{method}: {type(error).__name__}") from None

    def ticket(self, table, data):
        """The record of the event's ticket: by ticket_id where that is a sys_id, else by number."""
        number, sys_id = data.get("ticket_number") or "", data.get("ticket_id") or ""
        if re.fullmatch(r"[0-9a-f]{32}", sys_id):
            query = f"sys_id={sys_id}"
        elif re.fullmatch(r"[A-Za-z0-9-]{1,40}", number):  # nothing that could be part of a query
            query = f"number={number}"
        else:
            raise Refused("the event names no ticket")
        found = self.call("GET", table, sysparm_query=query, sysparm_fields="sys_id,number,state", sysparm_limit=2)
        if len(found) != 1 or number not in ("", found[0]["number"]):
            raise Refused("no such ticket")
        return found[0]

    def has_note(self, sys_id, event_id):
        # What others write into the journal proves nothing.
        query = f"element_id={sys_id}^element=work_notes^sys_created_by={self.user}^valueLIKEmfa-reset event {event_id}"
        return bool(self.call("GET", "sys_journal_field", sysparm_query=query, sysparm_fields="sys_id", sysparm_limit=1))
