#!/usr/bin/env python3
"""A service in Python: a script that the daemon starts for each call.

    nsp daemon --function Words.count=examples/python/14_service.py
    nsp call Words count '"to be or not to be"'

The argument comes as JSON on standard input, the answer goes as JSON to standard output. A script that fails says why in the same
way; what it writes to standard error is for the daemon's log. Who calls is in the environment.
"""
import collections
import json
import os
import sys

text = json.load(sys.stdin)
if not isinstance(text, str):
    print(json.dumps({"code": "bad_argument", "message": "a text, please"}))
    sys.exit(1)

print(os.environ["NSP_SERVICE"], "counts for", os.environ.get("NSP_USER", "somebody"), file=sys.stderr)
json.dump(dict(collections.Counter(text.split()).most_common(3)), sys.stdout)
