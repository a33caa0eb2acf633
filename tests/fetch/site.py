"""A server of trades files on this machine, and everything a server can do wrong."""

import gzip
import hashlib
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRADES = "/v1/binance-futures/trades/2024/08/01/BTCUSDT.csv.gz"
TRADES_FILE = "binance-futures_trades_2024-08-01_BTCUSDT.csv.gz"
TRADES_PART = "binance-futures_trades_2024-08-01_BTCUSDT.part"
HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def make_trades(seed, rows=8_000):
    """Return a trades file of about 100 kB; rows of another seed have another price."""
    draw = random.Random(seed)
    lines = [
        f"binance-futures,BTCUSDT,{10**15 + row},{10**15 + row},{draw.getrandbits(60)},buy,{60_000 + seed},0.001\n"
        for row in range(rows)
    ]
    return gzip.compress((HEADER + "".join(lines)).encode(), mtime=0)


FIRST, SECOND = make_trades(1), make_trades(2)
EMPTY = gzip.compress(b"", mtime=0)
assert 100_000 < len(FIRST) < 200_000  # what the cuts below mean


class Site:
    """A server as its visitors see it: what lies there, what it does to the next requests, what it was asked.

    A step of the plan is a status to answer with, ("cut", bytes) to end the connection after so many bytes of the body,
    ("stall", bytes) to say nothing more until told, or "plain" to answer as usual.
    """

    def __init__(self):
        self.files, self.plan, self.asked = {TRADES: FIRST}, [], []
        self.tags = "strong"  # or "weak", "date", "none"
        self.knows_ranges, self.heeds_if_range = True, True
        self.length = "stated"  # or "chunked", or "unknown" until the connection ends
        self.slip = 0  # how far before the byte asked for an answer begins
        self.is_released = threading.Event()
        self.retry_after, self.words, self.target = "", b"", ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": self}))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def host(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def url(self):
        return f"{self.host}/v1"

    def close(self):
        self.is_released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def ranges(self):
        return [headers.get("Range") for _, headers in self.asked]

    def validators(self, content):
        """Return the headers that name a version of a file."""
        name = hashlib.sha256(content).hexdigest()[:16]
        day = f"Thu, 01 Aug 2024 00:00:{int(name, 16) % 60:02} GMT"
        return {
            "strong": {"ETag": f'"{name}"', "Last-Modified": day},
            "weak": {"ETag": f'W/"{name}"', "Last-Modified": day},
            "date": {"Last-Modified": day},
            "none": {},
        }[self.tags]


class Handler(BaseHTTPRequestHandler):
    """Files with ranges, and the site's mischief."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        step = site.plan.pop(0) if site.plan else "plain"
        content = site.files.get(self.path)
        if isinstance(step, int) or content is None:
            self.answer(step if isinstance(step, int) else 404, {"Content-Length": len(site.words)}, site.words)
            return
        headers = site.validators(content)
        start = 0
        asked, wanted = self.headers.get("Range"), self.headers.get("If-Range")
        # Strong comparison: a weak tag fits nothing, itself included (RFC 9110, 13.1.5).
        is_same = wanted is None or (wanted in headers.values() and not wanted.startswith("W/"))
        if asked and site.knows_ranges and (is_same or not site.heeds_if_range):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) - site.slip
            if start >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0}, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        kind, count = step if isinstance(step, tuple) else ("plain", len(body))
        if site.length == "stated":
            headers["Content-Length"] = len(body)
        elif site.length == "chunked":
            headers["Transfer-Encoding"] = "chunked"
            is_cut, body = count < len(body), b"%x\r\n%b\r\n" % (min(count, len(body)), body[:count])
            body, count = body if is_cut else body + b"0\r\n\r\n", len(body) + 5
        self.answer(206 if start else 200, headers, body[:count])
        if kind == "stall":
            site.is_released.wait(30)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if self.site.retry_after:
            self.send_header("Retry-After", self.site.retry_after)
        if self.site.target and status in (301, 302, 307):
            self.send_header("Location", self.site.target)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def leave_part(folder, content, tag=None):
    """Leave what an interrupted run left."""
    folder.mkdir(exist_ok=True)
    (folder / TRADES_PART).write_bytes(content)
    if tag is not None:
        (folder / f"{TRADES_PART}.tag").write_text(tag)
