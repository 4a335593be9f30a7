"""A cloud as others write them: ids, rows one at a time, a key. Nothing here knows Tandem; it proves that its `missing` mode needs no more.

Usage: missing_server.py KEY [PAGE]   prints its port, then serves until its standard input ends. With PAGE it answers so many ids at once
and says under `next` where to go on; without, all of them, as most such services do. `GET /dump` shows everything, without a key.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

KEY = sys.argv[1]
PAGE = int(sys.argv[2]) if len(sys.argv) > 2 else None
KNOWN = {"rooms", "cameras", "riders"}
ROWS = {name: {} for name in KNOWN}
POSTS = []


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def resource(self):
        """The resource asked for, or None after an answer."""
        if self.headers.get("Authorization") != "Bearer " + KEY:
            return self.answer(401, {"message": "Unauthenticated."})
        name = urlparse(self.path).path.removeprefix("/api/")
        if name not in KNOWN:
            return self.answer(404, {"message": "Not found."})
        return name

    def do_GET(self):
        if self.path == "/dump":
            return self.answer(200, {"rows": ROWS, "posts": len(POSTS)})
        name = self.resource()
        if name is None:
            return
        ids = sorted(ROWS[name])
        if PAGE is None:
            # Rows, as many frameworks answer, and no word about pages.
            return self.answer(200, {"data": [{"id": int(i)} for i in ids]})
        after = parse_qs(urlparse(self.path).query).get("after", [""])[0]
        rest = [i for i in ids if i > after]
        self.answer(200, {"ids": rest[:PAGE], "next": rest[PAGE - 1] if len(rest) > PAGE else None})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.resource()
        if name is None:
            return
        row = json.loads(body)
        POSTS.append(row)
        if not row.get("name"):
            return self.answer(422, {"message": "The name field is required."})
        if str(row["id"]) in ROWS[name]:
            return self.answer(409, {"message": "It exists."})
        ROWS[name][str(row["id"])] = row
        self.answer(201, {"success": True})

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
os._exit(0)
