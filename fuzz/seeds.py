#!/usr/bin/env python3
"""Cuts the golden binlogs into seeds for both fuzz targets."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent
TABLE_MAP, FORMAT_DESCRIPTION, HEADER = 19, 15, 19

for target in ("events", "rows"):
    (ROOT / "corpus" / target).mkdir(parents=True, exist_ok=True)
for binlog in sorted((ROOT.parent / "tests" / "golden").glob("*.binlog")):
    data, at, checksum, table_map = binlog.read_bytes(), 4, 0, b""
    while at < len(data):
        kind, size = data[at + 4], int.from_bytes(data[at + 9 : at + 13], "little")
        event = data[at : at + size]
        if kind == FORMAT_DESCRIPTION:
            checksum = 4 if event[-5] == 1 else 0
        body = event[HEADER : size - checksum]
        if kind == TABLE_MAP:
            table_map = body
            (ROOT / "corpus" / "events" / f"{binlog.stem}-{at}").write_bytes(body)
        elif kind in range(23, 26) or kind in range(166, 169):
            seed = bytes([kind]) + len(table_map).to_bytes(2, "little") + table_map + body
            (ROOT / "corpus" / "rows" / f"{binlog.stem}-{at}").write_bytes(seed)
        at += size
