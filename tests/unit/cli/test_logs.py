from __future__ import annotations

import json
import logging
import sys

from exporter.cli.logs import JSONFormatter


def record(**extra: object) -> logging.LogRecord:
    found = logging.LogRecord("exporter.server", logging.WARNING, __file__, 1, "rpc=%s", ("Export",), None)
    found.created, found.msecs = 1_700_000_000.25, 250.0
    vars(found).update(extra)
    return found


def test_a_line_is_an_object_with_the_facts_of_the_request() -> None:
    assert json.loads(JSONFormatter().format(record(facts={"code": "OK", "duration": "0.1"}))) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "exporter.server",
        "msg": "rpc=Export",
        "code": "OK",
        "duration": "0.1",
    }


def test_exceptions_are_part_of_the_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        line = JSONFormatter().format(record(exc_info=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["error"].endswith("ValueError: bad")
