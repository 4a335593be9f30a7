#!/usr/bin/env python3
"""Runs the model and tells, a line of JSON for each run, what happened in which order and what came of it.

    python3 trace.py FROM TO [no_wait | no_clock_merge | no_forget | no_crash | no_resolution]

`tests/sim/model.rs` lets the program live through the same and compares. `causal_lww.py` is as its authors wrote it; what differs here
is only what a server does and the model leaves open:
  - deleting a row that is not there is no event of a binlog;
  - a node notes only now and then that it has read a heartbeat, so that one moves no clock;
  - what a node settled by itself has the commit time of that transaction, as every write of its own has;
  - a change is applied after everything that its origin had seen of third nodes.

A line: {seed, nodes, rows, unique, offsets, events, topics, tables, fault}. Events, in their order:
  ["write", node, time, [[row, value], ...]]   its application committed; a value of null deletes
  ["tail", node, count]                        its tailer has read so many transactions of its binlog
  ["apply", node, origin, number, time]        it committed what the origin published as its transaction of this number, from 0
  ["crash", node]
Of `topics` each entry is [clock, {origin: transactions seen}, [[row, value], ...]]; heartbeats are left out. Times and clocks are in
microseconds.
"""
import json
import random
import sys

import causal_lww
from causal_lww import SECOND, World


class Node(causal_lww.Node):
    events = None

    def start(self, world):
        if world is not None:
            self.events.append(["crash", self.number])
        super().start(world)


class Traced(World):
    def __init__(self, *args):
        self.events = []
        super().__init__(*args)
        for node in self.nodes:
            node.events = self.events

    def write(self, node):
        """As in the model, but for a delete of what is not there."""
        first = self.random.randrange(self.rows)
        rows = [(first, None if self.random.random() < .2 else self.new_value())]
        second = self.random.randrange(self.rows)
        if second != first and self.random.random() < .3:
            rows.append((second, self.new_value()))
        if any(row in node.locked for row, _ in rows):
            return
        if self.unique:
            rows = rows[:1]
            if self.holder(node, *rows[0]) is not None:
                return
        rows = [(row, value) for row, value in rows if value is not None or node.db[row][0] is not None]
        if not rows:
            return
        over = [node.db[row][1] for row, _ in rows]
        for row, value in rows:
            node.db[row] = (value, ("local", node.number, len(node.binlog)))
        node.binlog.append(dict(kind="local", commit_second=self.commit_second(node), rows=rows, over=over))
        self.events.append(["write", node.number, self.time, rows])

    def commit_second(self, node):
        return (self.time + node.clock_offset) // SECOND * SECOND

    def tail(self, node):
        if node.position == len(node.binlog):
            return
        group = node.binlog[node.position]
        if group["kind"] == "apply" and not group["data"]:
            node.position += 1
            return
        if group["kind"] == "apply" and group["resolved"] and self.without != "no_resolution":
            node.hlc = max(node.hlc, group["commit_second"] - 1)
        super().tail(node)
        read = sum(is_data(group) for group in node.binlog[:node.position])
        self.events.append(["tail", node.number, read])

    def is_ready(self, node, origin):
        if origin == node.number or node.applied[origin] == len(self.nodes[origin].topic):
            return False
        seen = self.nodes[origin].topic[node.applied[origin]]["seen"]
        return all(seen[o] <= node.applied[o] for o in range(node.nodes) if o not in (node.number, origin))

    def apply(self, node):
        if node.in_flight is None:
            ready = [origin for origin in range(node.nodes) if self.is_ready(node, origin)]
            if ready:
                origin = self.random.choice(ready)
                record = self.nodes[origin].topic[node.applied[origin]]
                node.locked = {row for row, _ in record["rows"]}
                node.in_flight = (origin, record, len(node.binlog))
            return
        before = len(node.binlog)
        super().apply(node)
        if len(node.binlog) == before:
            return
        group = node.binlog[-1]
        group["commit_second"] = self.commit_second(node)
        if group["data"]:
            origin, end = group["origin"], group["offset"]
            number = transactions(self.nodes[origin].topic, end) - 1
            self.events.append(["apply", node.number, origin, number, self.time])


class Words:
    """Several of the model's words at once: it only asks whether the word is this one."""

    def __init__(self, *words):
        self.words = words

    def __eq__(self, word):
        return word in self.words


def is_data(group):
    return group["kind"] == "local" or group["data"]


def transactions(topic, end):
    return sum(bool(record["rows"]) for record in topic[:end])


def run(seed, without):
    """As `causal_lww.run`."""
    dice = random.Random(seed ^ 0x5BD1)
    # What a crash lets be read again, the program knows already: where nobody waits for it, that is a difference.
    words = Words("no_wait", "no_crash") if without == "no_wait" else without
    world = Traced(seed, dice.choice([2, 3, 4]), dice.choice([1, 2, 5]), seed % 2 == 1, words)
    for _ in range(dice.choice([60, 300, 1500])):
        world.step()
    fault = "never idle"
    for count in range(200_000):
        world.step(draining=True)
        if count % 50 == 0 and world.idle():
            fault = world.fault()
            break
    nodes = world.nodes

    def told(node):
        for record in node.topic:
            if record["rows"]:
                seen = {o: transactions(nodes[o].topic, end) for o, end in enumerate(record["seen"]) if o != node.number}
                yield [record["hlc"], seen, record["rows"]]

    return dict(seed=seed, nodes=len(nodes), rows=world.rows, unique=world.unique, events=world.events, fault=fault,
                offsets=[node.clock_offset // SECOND for node in nodes], topics=[list(told(node)) for node in nodes],
                tables=[{row: value for row, (value, _) in node.db.items() if value is not None} for node in nodes])


if __name__ == "__main__":
    causal_lww.Node = Node
    without = sys.argv[3] if len(sys.argv) > 3 else None
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps(run(seed, without)))
