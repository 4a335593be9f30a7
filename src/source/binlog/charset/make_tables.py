#!/usr/bin/env python3
"""Writes single_byte.rs and tables/*.txt: what every code of every character set means, as a MariaDB server says it.

    make_tables.py mariadb --socket=/path/to/socket --user=root

The arguments are the command of a client that can log in. A code is taken where the server calls it one character,
and converting that character back gives the same code. Where it does not (two codes for one character), the bytes
could not be told from the text, so the decoder keeps such values as bytes: U+FFFD stands for those and for gaps.
tests/live/types.rs checks the result against a server again.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
UNICODE = {"ascii", "binary", "ucs2", "utf16", "utf16le", "utf32", "utf8mb3", "utf8mb4"}
GAP = "\ufffd"


def query(sql):
    client = sys.argv[1:] + ["--skip-column-names", "--default-character-set=utf8mb4", "mysql"]
    output = subprocess.run(client, input=sql.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [line.split("\t") for line in output.decode().splitlines()]


def characters(charset):
    """Code to character, of one, two and three bytes (those begin with 8F)."""
    codes = """
        SELECT unhex(lpad(hex(seq), 2, '0')) AS code FROM seq_0_to_255
        UNION ALL SELECT unhex(hex(seq)) FROM seq_32768_to_65535
        UNION ALL SELECT concat(x'8f', unhex(hex(seq))) FROM seq_41120_to_65535"""
    rows = query(f"""
        SELECT hex(code), hex(convert(text USING utf8mb4)) FROM
            (SELECT code, convert(code USING {charset}) AS text FROM ({codes}) AS codes) AS texts
        WHERE char_length(text) = 1
          AND hex(convert(convert(text USING utf8mb4) USING {charset})) = hex(code)""")
    return {bytes.fromhex(code): bytes.fromhex(text).decode() for code, text in rows}


def literal(text):
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\u{{{ord(c):x}}}" for c in text)


def main():
    charsets = sorted(row[0] for row in query("SELECT character_set_name FROM information_schema.character_sets"))
    single = []
    for charset in charsets:
        if charset in UNICODE:
            continue
        table = characters(charset)
        table = {code: text for code, text in table.items() if text != GAP}
        wide = {code for code in table if len(code) > 1}
        high = "".join(table.get(bytes([code]), GAP) for code in range(0x80, 0x100))
        low = {code: table.get(bytes([code]), GAP) for code in range(0x80) if table.get(bytes([code])) != chr(code)}
        if not wide:
            single.append((charset, high, low))
            continue
        lines = ["".join(f"{code:02x} {text}\n" for code, text in sorted(low.items()))]
        lines.append(f"high {high}\n")
        for lead in sorted({code[:-1] for code in wide}):
            trails = sorted(code[-1] for code in wide if code[:-1] == lead)
            row = "".join(table.get(lead + bytes([trail]), GAP) for trail in range(trails[0], trails[-1] + 1))
            assert len(row) == trails[-1] - trails[0] + 1 and "\n" not in row
            lines.append(f"{lead.hex()}{trails[0]:02x} {row}\n")
        (HERE / "tables" / f"{charset}.txt").write_text("".join(lines), encoding="utf-8", newline="\n")
    with open(HERE / "single_byte.rs", "w", encoding="utf-8", newline="\n") as out:
        out.write("//! What the codes 80 to FF of each single-byte character set mean, U+FFFD where nothing. Made by make_tables.py.\n\n")
        out.write("/// Name, its characters 80 to FF, and what differs from ASCII below.\n")
        out.write("pub(super) type SingleByte = (&'static str, &'static str, &'static [(u8, char)]);\n\n")
        out.write(f"pub(super) static SINGLE_BYTE: [SingleByte; {len(single)}] = [\n")
        for charset, high, low in single:
            lows = "".join(f"(0x{code:02x}, '{literal(text)}'), " for code, text in low.items())
            out.write(f"    (\n        \"{charset}\",\n        \"{literal(high)}\",\n        &[{lows}],\n    ),\n")
        out.write("];\n")
    subprocess.run(["rustfmt", "--edition", "2024", out.name], check=True)


main()
