"""Runs SQL for a driver, so that preparing an engine's input does not count as the engine's work."""

import json
import sys

import chdb

for line in sys.stdin:
    try:
        chdb.query(json.loads(line), "Null")
        print(json.dumps(""), flush=True)
    except Exception as error:
        print(json.dumps(str(error)), flush=True)
