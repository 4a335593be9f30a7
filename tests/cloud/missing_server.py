"""A cloud as others write them, with an ordinary framework (Flask): ids, rows one at a time, a key. Nothing here knows Tandem; it proves
that its `missing` mode needs no more.

Usage: missing_server.py KEY [PAGE]   prints its port, then serves until its standard input ends. With PAGE it answers so many ids at once
and says under `next` where to go on; without, all of them, as most such services do. `GET /dump` shows everything, without a key.
"""

import os
import sys
import threading

from flask import Flask, abort, jsonify, request
from werkzeug.serving import make_server

KEY = sys.argv[1]
PAGE = int(sys.argv[2]) if len(sys.argv) > 2 else None
ROWS = {"rooms": {}, "cameras": {}, "riders": {}}
POSTS = []
app = Flask(__name__)


@app.before_request
def check_key():
    if request.path != "/dump" and request.headers.get("Authorization") != "Bearer " + KEY:
        return jsonify(message="Unauthenticated."), 401


@app.get("/api/<resource>")
def ids(resource):
    if resource not in ROWS:
        abort(404)
    known = sorted(ROWS[resource])
    if PAGE is None:
        # Rows, as many services answer, and no word about pages.
        return jsonify(data=[{"id": int(i)} for i in known])
    rest = [i for i in known if i > request.args.get("after", "")]
    return jsonify(ids=rest[:PAGE], next=rest[PAGE - 1] if len(rest) > PAGE else None)


@app.post("/api/<resource>")
def create(resource):
    if resource not in ROWS:
        abort(404)
    row = request.get_json()
    POSTS.append(row)
    if not row.get("name"):
        return jsonify(message="The name field is required."), 422
    if str(row["id"]) in ROWS[resource]:
        return jsonify(message="It exists."), 409
    ROWS[resource][str(row["id"])] = row
    return jsonify(success=True), 201


@app.get("/dump")
def dump():
    return jsonify(rows=ROWS, posts=len(POSTS))


server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(0)
