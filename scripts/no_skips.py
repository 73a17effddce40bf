"""Fail if tests were skipped: ``no_skips.py REPORT.xml [ALLOWED ...]``, with a report of ``pytest --junitxml``."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET


def main(report: str, *allowed: str) -> int:
    """Name the tests that were skipped and are not in ``allowed`` (``module::test``)."""
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - pytest wrote it a moment ago
    skipped = {
        f"{case.get('classname')}::{case.get('name')}": found.get("message")
        for case in cases
        if (found := case.find("skipped")) is not None
    }
    wrong = [f"skipped: {name}: {why}" for name, why in skipped.items() if name not in allowed]
    wrong += [f"allowed to be skipped, but was not: {name}" for name in allowed if name not in skipped]
    if not cases:
        wrong = ["no test ran at all"]
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
