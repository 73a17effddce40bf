"""
``make mutants``: break the core in thousands of small ways, and see which of them no test notices.

A mutant is tried with the tests that run its line, in forks of one process that has collected them. What it finds is
kept in ``.mutants/``, so that the next run tries only what is new, what changed, and (``--survivors``) what survived.
"""

from __future__ import annotations

import argparse
import ast
import atexit
import contextlib
import functools
import gc
import hashlib
import importlib
import itertools
import json
import operator
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import pytest
from mutations import Finder, Mutant, codes_of, key_of

PROJECT = Path(__file__).resolve().parent.parent
CORE = ("airflow_provider_lago/api", "airflow_provider_lago/delivery")
TESTS = (
    "tests/fast/api",
    "tests/fast/delivery",
    "tests/fast/operators",
    "tests/fast/security",
    "tests/fast/sources",
    "tests/fast/storage",
    "tests/faults/test_against_the_sandbox.py",
    "tests/faults/test_customers_and_subscriptions.py",
)
KEPT = PROJECT / ".mutants"
RESULTS = KEPT / "results.json"
COVERAGE = KEPT / "coverage.json"

#: Tests that take longer, measured with coverage, are for the whole suite and not for each of thousands of mutants.
SLOWEST = 3.0
#: A mutant that makes a test hang is killed by it.
PATIENCE = 8.0
#: For importing the project and collecting the tests.
START = 60.0
MEMORY = 6 * 2**30
#: Every so many tries the code is left as it is: a test that fails then is not to be trusted.
CONTROL = 40

#: Tests whose file names a constant, of which so many come before all others.
_FIRST = 100

#: A sample holds at least so many mutants of each module.
FEWEST = 20

_OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--capture=sys", "-x"]


def sources() -> list[str]:
    """Return the paths of the core's modules, from the project's folder."""
    found = (path for folder in CORE for path in (PROJECT / folder).rglob("*.py"))
    return sorted(path.relative_to(PROJECT).as_posix() for path in found)


def _name_of(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def finder(module: str) -> Finder:
    """Return the finder of a module's mutants."""
    return Finder(module, (PROJECT / module).read_text())


def chosen(options: argparse.Namespace) -> dict[str, list[Mutant]]:
    """
    Return the mutants of each module to try: all, or a sample by the hash of what they are.

    A sample holds the same mutants again after the code around them has changed. Small modules are drawn from more.
    """
    found = {module: finder(module).mutants for module in sources() if options.only in module}
    if not options.sample:
        return found
    share = options.sample / sum(len(finder(module).mutants) for module in sources())
    return {
        module: sorted(mutants, key=lambda mutant: _lot(mutant, options.seed))[
            : max(FEWEST, round(share * len(mutants)))
        ]
        for module, mutants in found.items()
    }


def _lot(mutant: Mutant, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{mutant.id}".encode()).digest()


@dataclass
class Test:
    """
    What a test does.

    :param seconds: How long it takes.
    :param lines: The lines of each module that it runs.
    """

    seconds: float
    lines: dict[str, list[int]]

    @property
    def breadth(self) -> int:
        """Return how much it runs: one that runs little says more about it."""
        return sum(map(len, self.lines.values()))


class _Measuring:
    """Plugin of pytest that notes the time and the lines of each test."""

    def __init__(self) -> None:
        import coverage

        self._coverage = coverage.Coverage(data_file=None, source=[str(PROJECT / folder) for folder in CORE])
        self._coverage.start()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        yield
        self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)

    def tests(self) -> dict[str, Test]:
        """Return what was measured of all tests that passed."""
        self._coverage.stop()
        data = self._coverage.get_data()
        found = {name: Test(round(seconds, 3), {}) for name, seconds in self.seconds.items()}
        for path in data.measured_files():
            module = Path(path).relative_to(PROJECT).as_posix()
            per_test: dict[str, list[int]] = defaultdict(list)
            for line, contexts in data.contexts_by_lineno(path).items():
                for name in contexts:
                    per_test[name].append(line)
            for name, lines in per_test.items():
                if name in found:
                    found[name].lines[module] = sorted(lines)
        return {name: test for name, test in found.items() if name not in self.failed}


def test_files() -> list[str]:
    """Return the paths of the files whose tests are tried."""
    found: list[str] = []
    for place in TESTS:
        path = PROJECT / place
        found += (
            [place] if path.is_file() else sorted(p.relative_to(PROJECT).as_posix() for p in path.glob("test_*.py"))
        )
    return found


def measured() -> dict[str, Test]:
    """Return all tests; those of files that changed, or all of them if the core did, are measured anew."""
    shared = [*sources(), *sorted(p.relative_to(PROJECT).as_posix() for p in (PROJECT / "tests/support").glob("*.py"))]
    core = _digest(shared)
    kept = json.loads(COVERAGE.read_text()) if COVERAGE.exists() else {}
    files = {name: core + _digest([name]) for name in test_files()}
    stale = [name for name, digest in files.items() if kept.get(name, {}).get("digest") != digest]
    if stale:
        say(f"measuring the tests of {len(stale)} files")
        slow = {
            test: {"seconds": what["seconds"], "lines": {}}
            for name in stale
            for test, what in kept.get(name, {}).get("tests", {}).items()
            if what["seconds"] > 2 * SLOWEST
        }
        found = _in_a_process("measure", [*stale, *(f"--deselect={test}" for test in slow)])
        for name in stale:
            tests = {test: what for test, what in {**slow, **found}.items() if test.split("::")[0] == name}
            kept[name] = {"digest": files[name], "tests": tests}
        _write(COVERAGE, {name: kept[name] for name in files})
    return {test: Test(**what) for name in files for test, what in kept[name]["tests"].items()}


def _measure(files: Sequence[str], output: Path) -> None:
    plugin = _Measuring()
    if _pytest([*_OPTIONS[:-1], *files], plugin) not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        sys.exit("the tests could not be collected: nothing is known of what they run")
    for name in sorted(plugin.failed):
        say(f"left out, as it fails without a change: {name}")
    _write(output, {name: asdict(test) for name, test in plugin.tests().items()})


class Choice:
    """Choose the tests of a mutant."""

    def __init__(self, tests: Mapping[str, Test]) -> None:
        self._tests = tests
        self._by_line: dict[tuple[str, int], list[str]] = defaultdict(list)
        self._of_module: dict[str, set[str]] = defaultdict(set)
        self._text = {module: (PROJECT / module).read_text().splitlines() for module in sources()}
        self._test_text = {path: (PROJECT / path).read_text() for path in test_files()}
        for name, test in tests.items():
            for module, lines in test.lines.items():
                for line in lines:
                    self._by_line[module, line].append(name)
                if lines:
                    self._of_module[module].add(name)

    def of(self, mutant: Mutant, seconds: float) -> list[str]:
        """
        Return the names of the tests to run.

        :param seconds: How long they may take together: those of its room that run the least, and others in turn.
        """
        room, stem = Path(mutant.module).parts[1], Path(mutant.module).stem
        names = self._running([(mutant.module, line) for line in range(mutant.line, mutant.last + 1)])
        first: list[str] = []
        if mutant.scope is None:
            # Tests may look at a constant without running a line that names it.
            naming = {path for path, text in self._test_text.items() if any(name in text for name in mutant.names)}
            naming.add(f"tests/fast/{room}/test_{stem}.py")
            first = [name for name in self._tests if name.split("::")[0] in naming]
            names = self._running(self._uses(mutant)) | self._of_module[mutant.module] | set(first)

        def breadth(name: str) -> tuple[bool, int, float]:
            test = self._tests[name]
            return not name.startswith(f"tests/fast/{room}/"), test.breadth, test.seconds

        first = sorted(first, key=breadth)[:_FIRST]
        # What a change does may show far from it, where tests run much more.
        anywhere = sorted(names, key=lambda name: hashlib.md5(name.encode()).digest())  # noqa: S324
        mixed = itertools.chain.from_iterable(zip(sorted(names, key=breadth), anywhere, strict=True))
        ordered = list(dict.fromkeys([*first, *mixed]))
        quick = [name for name in ordered if self._tests[name].seconds <= SLOWEST] or ordered[:1]
        chosen: list[str] = []
        for name in quick:
            seconds -= self._tests[name].seconds
            if seconds < 0 and chosen:
                break
            chosen.append(name)
        return chosen

    def seconds(self, name: str) -> float:
        """Return how long a test takes."""
        return self._tests[name].seconds

    def _running(self, lines: Iterable[tuple[str, int]]) -> set[str]:
        return {name for line in lines for name in self._by_line.get(line, ())}

    def _uses(self, mutant: Mutant) -> list[tuple[str, int]]:
        """Return the lines that use what a change at import defines."""
        if mutant.names and mutant.names[0].startswith("def "):
            return [(mutant.module, line) for line in range(mutant.line, mutant.last + 1)]
        return [
            (module, number)
            for module, text in self._text.items()
            for number, line in enumerate(text, 1)
            if any(name in line for name in mutant.names)
        ]


class Trying:
    """Plugin of pytest that runs the tests of each mutant in a fork of its own, instead of all tests once."""

    def __init__(self, plan: Sequence[tuple[Mutant | None, list[str]]], attempt: Any) -> None:
        self._plan = plan
        self._attempt = attempt

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutants of the plan."""
        for module in sources():  # some are imported where they are used; a fork could not change them
            importlib.import_module(_name_of(module))
        items = {item.nodeid: item for item in session.items}
        for mutant, wanted in self._plan:
            names = [name for name in wanted if name in items]  # some have an address of the process in their names
            chosen = [items[name] for name in names]
            self._attempt(mutant, names, functools.partial(_broken, mutant, chosen))
        return True


def _verdict(child: Any, limits: Sequence[float]) -> tuple[str, int]:
    """Run a child that tells its progress, and return what came out and at which test."""
    into, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(into)
        os.setsid()
        try:
            child(out)
        finally:
            os._exit(3)
    os.close(out)
    at, verdict = -1, ""
    rest = b""
    while not verdict:
        limit = START if at < 0 else limits[at]
        if not select.select([into], [], [], limit)[0]:
            verdict = "timeout"
            break
        read = os.read(into, 4096)
        if not read:
            verdict = "crashed" if at >= 0 else "unapplied"  # before the first test it is not the change that fails
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            word, _, number = line.decode().partition(" ")
            if word == "test":
                at = int(number)
            else:
                verdict = word
    os.close(into)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return verdict, at


def _broken(mutant: Mutant | None, items: Sequence[pytest.Item], out: int) -> None:
    """Change the mutant's function or constant where it stands, and run the tests."""
    _quietly()
    if mutant is not None:
        found = finder(mutant.module)
        tree = found.broken(next(n for n, other in enumerate(found.mutants) if other.id == mutant.id))
        if not (_change_function(mutant, tree) if mutant.scope is not None else _change_values(mutant, tree)):
            os.write(out, b"unapplied\n")
            os._exit(0)
    _run(items, out)


def _change_function(mutant: Mutant, tree: ast.Module) -> int:
    codes = codes_of(tree, str(PROJECT / mutant.module), mutant.scope or "", mutant.first_line)
    changed = 0
    for function in gc.get_objects():
        if type(function) is FunctionType:  # isinstance would wake the lazy objects of other libraries
            new = codes.get(key_of(function.__code__))
            if new is not None:
                function.__code__ = new
                changed += 1
    return changed


def _change_values(mutant: Mutant, tree: ast.Module) -> int:
    """Change what a module makes when it is imported: its constants, wherever they went, and functions' defaults."""
    name = _name_of(mutant.module)
    old = sys.modules[name]
    new = ModuleType(name)
    new.__file__ = old.__file__
    sys.modules[name] = new  # dataclasses look themselves up there
    exec(compile(tree, old.__file__ or "", "exec"), new.__dict__)  # noqa: S102
    sys.modules[name] = old
    if mutant.names[0].startswith("def "):
        path = mutant.names[0].removeprefix("def ")
        target, source = (operator.attrgetter(path)(module) for module in (old, new))
        function, changed = getattr(target, "__func__", target), getattr(source, "__func__", source)
        function.__defaults__, function.__kwdefaults__ = changed.__defaults__, changed.__kwdefaults__
        return 1
    count = 0
    for constant, value in new.__dict__.items():
        before = old.__dict__.get(constant)
        if constant.startswith("__") or isinstance(value, (type, FunctionType)) or value == before:
            continue
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(constant, new) is before:
                setattr(module, constant, value)
                count += 1
    return count


def _afresh(mutant: Mutant, names: Sequence[str], out: int) -> None:
    """Import the project with the changed module, in a process that has not imported it, and run the tests."""
    found = finder(mutant.module)
    index = next(n for n, other in enumerate(found.mutants) if other.id == mutant.id)
    path = str(PROJECT / mutant.module)
    _Changed.code = {path: compile(found.broken(index), path, "exec")}
    sys.meta_path.insert(0, cast("Any", _Changed))
    _quietly()
    _pytest([*_OPTIONS, *names], _Once(names, out))
    os.write(out, b"killed 0\n")  # it could not be imported, or the tests could not be collected


def _needs_imports(mutant: Mutant) -> bool:
    """Tell whether a change is in what a class is made of: then all that uses the class must be imported anew."""
    return mutant.scope is None and mutant.in_class and not mutant.names[0].startswith("def ")


def _preload() -> None:
    """Import what is not the project's, once for all that import the project afresh."""
    for name in ("aiohttp", "certifi", "hypothesis", "msgspec", "pendulum", "requests", "starlette.applications",
                 "trustme", "uvicorn"):  # fmt: skip
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class _Changed:
    """Finder of modules that loads one of them changed."""

    code: Mapping[str, CodeType] = {}

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith("airflow_provider_lago"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin in cls.code:
            spec.loader = _Loader(name, spec.origin or "")
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        return _Changed.code[self.path]


class _Once:
    def __init__(self, names: Sequence[str], out: int) -> None:
        self._names = names
        self._out = out

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        if set(self._names) - set(items):
            os.write(self._out, b"killed 0\n")
        _run([items[name] for name in self._names if name in items], self._out)
        return True


class _Watching:
    failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed


def _run(items: Sequence[pytest.Item], out: int) -> None:
    watching = _Watching()
    if items:
        items[0].config.pluginmanager.register(watching)
    for index, item in enumerate(items):
        os.write(out, f"test {index}\n".encode())
        following = items[index + 1] if index + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if watching.failed:
            os.write(out, b"killed\n")
            os._exit(0)
    os.write(out, b"survived\n")
    os._exit(0)


def _quietly() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)


def _pytest(arguments: Sequence[str], plugin: object) -> int:
    from hypothesis import settings

    # No deadlines, as others use the machine too, and no memory of examples, as each mutant would add its own.
    settings.register_profile("mutants", database=None, deadline=None, derandomize=True)
    settings.load_profile("mutants")
    return int(pytest.main([*arguments, f"--basetemp={_folder()}/pytest"], plugins=[plugin]))


@functools.cache
def _folder() -> str:
    """Return a folder for what tests write, which each of them empties."""
    made = tempfile.mkdtemp(prefix="mutants-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def run(options: argparse.Namespace) -> None:
    """Try what is to be tried, and note each result at once."""
    choice = Choice(measured())
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    every = [mutant for module in sources() for mutant in finder(module).mutants]
    results = {m.id: results[m.id] for m in every if m.id in results and results[m.id]["digest"] == m.digest}
    results = {name: result for name, result in results.items() if result["verdict"] != "unapplied"}
    again = ("survived", "uncovered") if options.survivors else ()
    wanted = [mutant for mutants in chosen(options).values() for mutant in mutants]
    todo = [m for m in wanted if m.id not in results or results[m.id]["verdict"] in again]
    todo.sort(key=lambda mutant: _lot(mutant, options.seed))  # so that a part of a run speaks for all modules
    plan: list[tuple[Mutant | None, list[str]]] = []
    for index, mutant in enumerate(todo):
        tests = choice.of(mutant, options.seconds)
        if not tests:
            results[mutant.id] = {"verdict": "uncovered", "digest": mutant.digest}
            continue
        if index % CONTROL == 0:
            plan.append((None, tests))
        plan.append((mutant, tests))
    say(f"{len(every)} mutants, {len(wanted)} chosen, {len(plan)} tries")
    counts: Counter[str] = Counter()

    def attempt(mutant: Mutant | None, tests: Sequence[str], child: Any) -> None:
        limits = [PATIENCE + 5 * choice.seconds(name) for name in tests]
        began = time.monotonic()
        word, at = _verdict(child, limits)
        test = tests[at] if 0 <= at < len(tests) else None
        counts[word if mutant else f"unchanged {word}"] += 1
        if mutant is None:
            if word != "survived":
                say(f"fails without a change: {test}")
            return
        results[mutant.id] = {
            "verdict": word,
            "test": test,
            "seconds": round(time.monotonic() - began, 2),
            "digest": mutant.digest,
            "tests": len(tests),
        }
        if options.verbose and word in ("survived", "crashed", "unapplied"):
            say(f"{mutant.module}:{mutant.line} {mutant.scope or mutant.names}: {mutant.change}  [{word}]")
        if sum(counts.values()) % 20 == 0:
            _write(RESULTS, results)
        if sum(counts.values()) % 100 == 0:
            say(f"{sum(counts.values())} of {len(plan)}: {dict(counts)}")

    _preload()
    _folder()
    for broken, names in plan:
        if broken is not None and _needs_imports(broken):
            attempt(broken, names, functools.partial(_afresh, broken, names))
    in_place = [(mutant, tests) for mutant, tests in plan if mutant is None or not _needs_imports(mutant)]
    files = sorted({name.split("::")[0] for _, tests in in_place for name in tests})
    if in_place:
        _pytest([*_OPTIONS, *files], Trying(in_place, attempt))
    _write(RESULTS, results)
    say(f"tried: {dict(counts)}")


def report(options: argparse.Namespace) -> None:
    """Print the figures of each module and the survivors."""
    results = json.loads(RESULTS.read_text())
    per_module: dict[str, Counter[str]] = {}
    alive: list[str] = []
    wordings = 0
    for module, mutants in chosen(options).items():
        wordings += finder(module).wordings
        counted = per_module[module] = Counter()
        for mutant in mutants:
            result = results.get(mutant.id)
            word = result["verdict"] if result and result["digest"] == mutant.digest else "not tried"
            counted[word] += 1
            if word in ("survived", "uncovered"):
                alive.append(
                    f"{module}:{mutant.line} {mutant.scope or ','.join(mutant.names)}: {mutant.change} [{word}]"
                )
    say("| module | mutants | killed | timeouts | survived | of those, run by no test | not tried |")
    say("|---|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for module, counted in per_module.items():
        if counted:
            say(_row(module.removeprefix("airflow_provider_lago/"), counted))
        total += counted
    say(_row("**all**", total))
    say(f"\n{wordings} wordings of messages left out\n")
    for line in alive:
        say(line)


def _row(name: str, counted: Counter[str]) -> str:
    killed = counted["killed"] + counted["crashed"]
    survived = counted["survived"] + counted["uncovered"]
    figures = (counted.total(), killed, counted["timeout"], survived, counted["uncovered"], counted["not tried"])
    return f"| {name} | {' | '.join(map(str, figures))} |"


def say(line: str) -> None:
    """Print a line also where pytest captures what is printed."""
    sys.__stdout__.write(f"{line}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _in_a_process(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output.json"
        subprocess.run([sys.executable, __file__, command, str(output), *arguments], check=True)
        return cast("dict[str, Any]", json.loads(output.read_text()))


def _digest(files: Iterable[str]) -> str:
    return hashlib.sha256(b"\0".join((PROJECT / name).read_bytes() for name in files)).hexdigest()[:16]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)


def main() -> None:
    """Do what the command line says."""
    os.chdir(PROJECT)
    sys.path.insert(0, str(PROJECT))
    if sys.argv[1:2] == ["measure"]:
        _measure(sys.argv[3:], Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of the path of the modules")
    parser.add_argument("--sample", type=int, help="about so many mutants, over all modules")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of tests for each mutant")
    parser.add_argument("--survivors", action="store_true", help="try those again that survived")
    parser.add_argument("--verbose", action="store_true", help="name each survivor at once")
    parser.add_argument("--report", action="store_true", help="only show what was found")
    options = parser.parse_args()
    if not options.report:
        run(options)
    report(options)


if __name__ == "__main__":
    main()
