"""Fail if tests were skipped: ``no_skips.py REPORT.xml``, a report of ``pytest --junitxml``."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

#: Tests that may be skipped: ``classname::name`` -> why.
ALLOWED: dict[str, str] = {}


def main(report: str) -> int:
    """Name the tests that were skipped without leave."""
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - pytest wrote it a moment ago
    skipped = [
        (f"{case.get('classname')}::{case.get('name')}", found.get("message"))
        for case in cases
        if (found := case.find("skipped")) is not None
    ]
    wrong = [f"{name}: {why}" for name, why in skipped if name not in ALLOWED]
    if not cases:
        wrong = ["no test ran at all"]
    for line in wrong:
        sys.stdout.write(f"skipped: {line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
