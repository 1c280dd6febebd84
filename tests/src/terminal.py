"""Runs a program on a terminal of its own: waits for what it shows, types, and prints all that it has shown.

terminal.py '[["text to wait for", "keys to type", "file to make, if any"], …]' PROGRAM ARGUMENT…

With TERMINAL_COLOURS in the environment what colours is printed, too.
"""
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

steps = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    rows, columns = 40, 160
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execv(sys.argv[2], sys.argv[2:])

commands = r"\x1b\[[0-9;?]*[A-Za-ln-z]|\r" if "TERMINAL_COLOURS" in os.environ else r"\x1b\[[0-9;?]*[A-Za-z]|\r"
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
    shown += re.sub(commands, "", piece.decode("utf-8", "replace"))
    return piece


seen = 0
for waiting, keys, *make in steps:
    while waiting not in shown[seen:]:
        if not read(waiting):
            print(shown)
            sys.exit(f"it ended before it showed: {waiting}")
    seen = shown.index(waiting, seen) + len(waiting)
    for path in make:
        open(path, "w").close()
    os.write(terminal, keys.encode())
while read("its end"):
    pass
print(shown, end="")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
