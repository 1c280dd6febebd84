"""Runs a program on a terminal of its own: waits for what it shows, types, and prints all that it has shown.

terminal.py '[["text to wait for", "keys to type"], …]' PROGRAM ARGUMENT…
"""
import json
import os
import pty
import re
import select
import sys
import termios
import time

steps = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])

shown = ""
deadline = time.monotonic() + 60


def read(waiting):
    """What is shown next, without the sequences that only move and colour; False at the end."""
    global shown
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        print(shown)
        sys.exit(f"nothing came for a minute, waiting for: {waiting}")
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is gone
        piece = b""
    shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", piece.decode("utf-8", "replace"))
    return piece


seen = 0
for waiting, keys in steps:
    while waiting not in shown[seen:]:
        if not read(waiting):
            print(shown)
            sys.exit(f"it ended before it showed: {waiting}")
    seen = shown.index(waiting, seen) + len(waiting)
    # A person does not type in the instant between a prompt and the end of echo.
    while ("assword" in waiting or "Once more" in waiting) and termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.001)
    os.write(terminal, keys.encode())
while read("its end"):
    pass
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
