#!/usr/bin/env python3
"""A service as a program: one JSON object a line, in and out. Standard error is the daemon's log."""
import json
import sys
import time


def say(**line):
    print(json.dumps(line), flush=True)


say(op="ready")
for text in sys.stdin:
    line = json.loads(text)
    if line["op"] == "stop":
        break
    if line["op"] != "call":
        continue  # hello, open, data, close, cancel, and whatever comes in later versions
    if line["function"] == "now":
        say(op="answer", id=line["id"], data=time.time())
    elif line["function"] == "ring":
        say(op="event", name="ring", data=line["data"], to="all")
        say(op="answer", id=line["id"])
