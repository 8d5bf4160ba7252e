"""Microsoft Graph, as far as `register` needs it."""

import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request


def quoted(text):
    """As a part of a path."""
    return urllib.parse.quote(text, safe="")


def literal(text):
    """As a string within a path or a filter."""
    return quoted("'" + text.replace("'", "''") + "'")


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for Graph: it follows nobody elsewhere."""

    def redirect_request(self, *_):
        return None


def is_loopback(root):
    return urllib.parse.urlsplit(root).hostname in ("127.0.0.1", "::1", "localhost")


class Graph:
    """Microsoft Graph as far as it is needed here. In a dry run it changes nothing, and says what it would do."""

    def __init__(self, root, token, dry_run):
        self.root, self.token, self.dry_run = root, token, dry_run
        proxies = urllib.request.ProxyHandler({}) if is_loopback(root) else urllib.request.ProxyHandler()
        context = ssl.create_default_context()
        self.web = urllib.request.build_opener(proxies, NoRedirects, urllib.request.HTTPSHandler(context=context))

    def get(self, path):
        """One object; None where there is none."""
        return self.send("GET", path)

    def list(self, path):
        found = []
        while path:
            page = self.send("GET", path)
            found += page["value"]
            path = page.get("@odata.nextLink", "").removeprefix(f"{self.root}/v1.0")
        return found

    def change(self, what, method, path, body=None, **headers):
        """Says what it does, and does it unless this is a dry run."""
        print(("would " if self.dry_run else "") + what)
        return {} if self.dry_run else self.send(method, path, body, **headers)

    def send(self, method, path, body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        headers |= {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        for attempt in range(10):
            request = urllib.request.Request(f"{self.root}/v1.0{path}", data, headers, method=method)
            try:
                with self.web.open(request, timeout=60) as answer:
                    return json.loads(answer.read() or b"{}")
            except urllib.error.HTTPError as refused:
                # What was made a moment ago may not be known everywhere yet.
                passing = refused.code in (429, 503, 504) or (refused.code == 404 and method != "GET")
                if refused.code == 404 and method == "GET":
                    return None
                if not passing or attempt == 9:
                    raise SystemExit(f"{method} {path}: {refused.code} {reason(refused)}") from None
                wait = refused.headers.get("Retry-After", "")
                time.sleep(float(wait) if re.fullmatch(r"\d+(\.\d+)?", wait) else 3)


def reason(refused):
    try:
        return json.loads(refused.read())["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
