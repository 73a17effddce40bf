"""
How fast events are delivered, beside other clients and beside the limit: ``make bench``.

    python benchmarks/bench.py [--quick] [--only NAME ...] [--rounds 3] [--out .bench] [--anew]

Each figure is the median of some rounds; a round measures every case once, so that all sides of a ratio had the same
machine. Each delivery runs in a process of its own, against a server in another (sink.c), which is faster than all of
them. Rows are kept in OUT/rows.jsonl as they come: a run that was broken off goes on where it was, and ``--anew``
begins again. OUT gets result.json, table.md and speed.svg.

Needs Linux, cc and wrk (Debian: apt-get install gcc libc6-dev wrk).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import Case, Medians, cases
from tables import draw, markdown
from workload import BATCH, bodies, write

HERE = Path(__file__).parent

#: Seconds of a run of the load generator, and bodies that it sends in turn.
WRK_SECONDS = 5
WRK_BODIES = 200


@contextlib.contextmanager
def sink(program: Path, latency: int) -> Iterator[str]:
    """Run the server and give its address."""
    with subprocess.Popen([str(program), str(latency)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def compiled(out: Path) -> Path:
    """Return the server's program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("A C compiler is needed for the server: apt-get install gcc libc6-dev")
    program = out / "sink"
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "sink.c")], check=True)
    return program


def taken(url: str) -> dict[str, int]:
    """Return what the server has taken."""
    with urllib.request.urlopen(url) as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def deliver(case: Case, url: str, data: Path) -> dict[str, Any]:
    """Deliver in a new process; the server must have got every event."""
    path = write(data, case.source, case.events)
    run = {**case.as_dict(), "url": url, "path": str(path)}
    # Byte code is kept, as on every worker: without it a cold run would measure the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [environment.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), json.dumps(run)],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise RuntimeError(f"{case.name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(found[0].removeprefix("RESULT "))
    events = taken(url)["events"] - (BATCH if case.warm else 0)
    if events != case.events:
        raise RuntimeError(f"{case.name}: the server got {events:,} events instead of {case.events:,}")
    return result


def load(case: Case, url: str, data: Path, seconds: int) -> dict[str, Any]:
    """Let wrk send what it can."""
    path = data / "bodies"
    if not path.exists():
        path.write_text("".join(f"{body}\n" for body in bodies(WRK_BODIES)))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{case.in_flight}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua"), url, "--", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    if result.pop("failed"):
        raise RuntimeError(f"{case.name} failed:\n{done.stdout}")
    return {**result, "events": result["requests"] * BATCH, "cpu": None, "peak": None}


def measure(case: Case, program: Path, data: Path, quick: bool) -> dict[str, Any]:
    with sink(program, case.latency) as url:
        if case.client == "wrk":
            return load(case, url, data, 1 if quick else WRK_SECONDS)
        return deliver(case, url, data)


def medians(wanted: list[Case], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each case that has been measured."""
    found = []
    for case in wanted:
        results = [row for row in rows if row["name"] == case.name]
        if not results:
            continue
        rates = [row["events"] / row["seconds"] for row in results]
        measured = [row for row in results if row["cpu"] is not None]
        found.append(
            {
                **case.as_dict(),
                "rounds": len(results),
                "rate": statistics.median(rates),
                "least": min(rates),
                "most": max(rates),
                "requests": round(statistics.median(row["requests"] for row in results)),
                "cpu": statistics.median(row["cpu"] / row["events"] * 1e6 for row in measured) if measured else None,
                "peak": statistics.median(row["peak"] for row in measured) if measured else None,
            }
        )
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on; the yardstick, µs of a plain piece of Python, compares machines."""
    text = json.dumps({"name": "value", "list": list(range(50))})
    timings = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(10_000):
            json.loads(text)
        timings.append(time.process_time() - started)
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    return {
        "processor": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "yardstick": round(min(timings) * 100, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true", help="few events: does it work?")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="only cases whose name holds one of these"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE.parent / ".bench")
    parser.add_argument("--anew", action="store_true", help="forget the rows of a run that was broken off")
    arguments = parser.parse_args()
    out, data = arguments.out, arguments.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    kept = out / "rows.jsonl"
    if arguments.anew:
        kept.unlink(missing_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    wanted = [case for case in cases(arguments.quick) if any(name in case.name for name in arguments.only)]
    if shutil.which("wrk") is None:
        print("wrk is not installed (apt-get install wrk): the limit is not measured\n")
        wanted = [case for case in wanted if case.client != "wrk"]
    program = compiled(out)
    failed: list[str] = []
    for number in range(1, arguments.rounds + 1):
        for case in wanted:
            if any(row["name"] == case.name and row["round"] == number for row in rows):
                continue
            try:
                row = {"name": case.name, "round": number, **measure(case, program, data, arguments.quick)}
            except RuntimeError as error:
                print(f"round {number}  {error}", flush=True)
                failed.append(case.name)
                continue
            rows.append(row)
            with kept.open("a") as stream:
                stream.write(f"{json.dumps(row)}\n")
            cpu = f"{row['cpu'] / row['events'] * 1e6:7.2f} CPU s/M" if row["cpu"] is not None else ""
            print(f"round {number}  {case.name:44} {row['events'] / row['seconds']:>12,.0f} events/s {cpu}", flush=True)
    found = medians(wanted, rows)
    result = {"machine": machine(), "rounds": arguments.rounds, "rows": found}
    result["goals"] = [
        {"what": goal.what, "value": goal.value, "bound": goal.bound, "unit": goal.unit, "reached": goal.is_reached}
        for goal in Medians(found).goals()
    ]
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    table = markdown(result, Medians(found).goals())
    (out / "table.md").write_text(table)
    print(f"\n{table}")
    draw(found, out / "speed.svg")
    print(f"{out}: result.json, table.md, speed.svg, rows.jsonl")
    if failed:
        sys.exit(f"failed: {', '.join(dict.fromkeys(failed))}")
    shutil.rmtree(data)


if __name__ == "__main__":
    main()
