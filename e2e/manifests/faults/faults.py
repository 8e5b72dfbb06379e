"""A Prometheus with faults on demand: passes queries on to the real one, and spoils the answers.

`GET /fault/NAME` chooses; `none` ends it. For the end-to-end tests alone.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_SECONDS = 30.0
CLOCK_SECONDS = 600.0
FAULTS = ("none", "slow", "empty", "nan", "clock", "error")
ASKS_FOR_THE_TIME = "time()"


class Proxy(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    fault = "none"

    def do_GET(self) -> None:
        """Choose a fault, or pass a query on."""
        if self.path.startswith("/fault/"):
            name = self.path.rsplit("/", 1)[1]
            known = name in FAULTS
            Proxy.fault = name if known else Proxy.fault
            self.answer(200 if known else 404, f"{name}\n".encode(), "text/plain")
            return
        fault = Proxy.fault
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        if fault == "error":
            self.answer(503, b'{"status": "error", "errorType": "unavailable", "error": "on purpose"}')
            return
        try:
            with urllib.request.urlopen(self.upstream + self.path, timeout=10) as response:
                body = response.read()
        except urllib.error.URLError as error:
            self.answer(502, str(error).encode(), "text/plain")
            return
        asks_for_the_time = ASKS_FOR_THE_TIME in urllib.parse.unquote_plus(self.path)
        self.answer(200, spoilt(body, fault, asks_for_the_time) if "/api/v1/query" in self.path else body)

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """Send an answer; whoever asked may have given up."""
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True


def spoilt(body: bytes, fault: str, asks_for_the_time: bool) -> bytes:
    """An answer of Prometheus with a fault in it."""
    answer = json.loads(body)
    series = answer.get("data", {}).get("result", [])
    if fault == "clock" and asks_for_the_time:
        for item in series:
            item["value"][1] = str(float(item["value"][1]) + CLOCK_SECONDS)
    elif fault == "empty" and not asks_for_the_time:
        answer["data"]["result"] = []
    elif fault == "nan" and not asks_for_the_time:
        for item in series:
            for pair in item.get("values", [item["value"]] if "value" in item else []):
                pair[1] = "NaN"
    return json.dumps(answer).encode()


if __name__ == "__main__":
    Proxy.upstream = sys.argv[1]
    ThreadingHTTPServer(("", 9090), Proxy).serve_forever()
