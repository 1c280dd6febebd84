#!/usr/bin/env python3
"""Greets: nsp daemon --function Chat.Hello=hello.py, then nsp call Chat Hello '{"d":"I am here."}'"""
import json
import os
import sys

asked = json.load(sys.stdin)
if not isinstance(asked, dict) or "d" not in asked:
    # What a failing script prints to standard output is what the caller reads.
    print(json.dumps({"code": "bad_argument", "message": "say something: {\"d\": text}"}))
    sys.exit(1)
user = os.environ.get("NSP_USER") or "stranger"
print(json.dumps({"r": f"hello {user}, you said: {asked['d']}"}))
