"""
The ways in which ``make mutants`` breaks the code, one small change at a time. Pure: source in, mutants out.

Left out, as nobody could notice them or the change would say nothing: docstrings, annotations, decorators and the
options of classes, log calls, and the wording of messages (a string with a blank in it, or anything in a ``raise``).
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

_LOGGING = frozenset({"debug", "info", "warning", "error", "exception", "log"})
_NO_ARGUMENTS = frozenset({"isinstance", "cast", "TypeVar", "NewType"})
#: They take a set of characters, which is as good with one more that is never there.
_SETS_OF_CHARACTERS = frozenset({"strip", "lstrip", "rstrip"})

_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.USub: ast.UAdd,
}

_METHODS = {
    "lower": "upper",
    "upper": "lower",
    "lstrip": "rstrip",
    "rstrip": "lstrip",
    "startswith": "endswith",
    "endswith": "startswith",
    "partition": "rpartition",
    "rpartition": "partition",
    "removeprefix": "removesuffix",
    "removesuffix": "removeprefix",
    "append": "count",
    "appendleft": "append",
    "popleft": "pop",
}

Put = Callable[[ast.AST], None]


@dataclass(slots=True)
class Mutant:
    """
    One change.

    :param module: Path of the source file.
    :param line: Its line, and ``last`` the last line of what it is part of.
    :param scope: Qualified name of the outermost function that holds it; None is what runs at import.
    :param names: What a change at import defines: where these are used, it can be noticed.
    :param change: What becomes of what.
    """

    module: str
    line: int
    last: int
    scope: str | None
    first_line: int
    names: tuple[str, ...]
    change: str
    digest: str = ""
    in_class: bool = False
    number: int = 0

    @property
    def id(self) -> str:
        """Return what stays the same when lines move."""
        return f"{self.module}:{self.scope or ','.join(self.names)}: {self.change} #{self.number}"


@dataclass(slots=True)
class _Place:
    scope: str | None
    first_line: int
    names: tuple[str, ...]
    line: int
    last: int
    digest: str = ""
    in_class: bool = False
    message: bool = False


class Finder:
    """Find all mutants of a module; ``broken(n)`` gives the tree with the n-th change made."""

    def __init__(self, module: str, source: str) -> None:
        self.module = module
        self.mutants: list[Mutant] = []
        #: Strings of messages and log calls that were left out.
        self.wordings = 0
        self._source = source
        self._changes: list[tuple[Put, ast.AST]] = []
        self._tree = ast.parse(source)
        self._statements(self._tree.body, _Place(None, 0, (), 1, 1), prefix="")
        counted: Counter[str] = Counter()
        for mutant in self.mutants:
            counted[mutant.id] += 1
            mutant.number = counted[mutant.id]

    def broken(self, index: int) -> ast.Module:
        """Return the tree with one change made. The finder is of no use afterwards: make another one."""
        put, node = self._changes[index]
        put(node)
        return ast.fix_missing_locations(self._tree)

    def _add(self, place: _Place, old: ast.AST | str, new: ast.AST, put: Put, shown: str | None = None) -> None:
        before = old if isinstance(old, str) else ast.unparse(old)
        change = f"{_short(before)} -> {_short(shown if shown is not None else ast.unparse(new))}"
        self.mutants.append(
            Mutant(
                self.module,
                place.line,
                place.last,
                place.scope,
                place.first_line,
                place.names,
                change,
                place.digest,
                place.in_class,
            )
        )
        if isinstance(old, ast.AST) and hasattr(old, "lineno"):
            ast.copy_location(new, old)
        self._changes.append((put, new))

    def _statements(self, body: list[ast.stmt], place: _Place, prefix: str | None) -> None:
        for index, statement in enumerate(body):
            self._statement(statement, _put_item(body, index), place, prefix)

    def _statement(self, node: ast.stmt, put: Put, place: _Place, prefix: str | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._function(node, place, prefix)
        elif isinstance(node, ast.ClassDef):
            inner = place if place.scope is not None else replace(place, in_class=True)
            self._statements(node.body, inner, None if prefix is None else f"{prefix}{node.name}.")
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        else:
            self._other(node, put, self._placed(node, place), prefix)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, place: _Place, prefix: str | None) -> None:
        outer = place
        if prefix is not None:  # not inside a function
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            digest = hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:16]
            place = _Place(f"{prefix}{node.name}", first, (), node.lineno, node.lineno, digest)
            last = node.end_lineno or node.lineno
            outer = _Place(
                None, first, (f"def {prefix}{node.name}",), node.body[0].lineno, last, digest, place.in_class
            )
        self._children(node.args, outer, only=("defaults", "kw_defaults"))
        self._statements(node.body, place, None)

    def _placed(self, node: ast.stmt, place: _Place) -> _Place:
        last = node.end_lineno or node.lineno
        inner = getattr(node, "body", None)
        if isinstance(inner, list) and inner:
            last = max(node.lineno, inner[0].lineno - 1)
        names = place.names
        digest = place.digest
        if place.scope is None:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = tuple(target.id for target in targets if isinstance(target, ast.Name)) or names
            digest = hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:16]
        return _Place(place.scope, place.first_line, names, node.lineno, last, digest, place.in_class)

    def _other(self, node: ast.stmt, put: Put, place: _Place, prefix: str | None) -> None:
        match node:
            case ast.Expr(value=ast.Constant()):
                return
            case ast.Expr(value=value) if _is_log(value):
                self.wordings += 1
                return
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
                self._add(place, node, ast.Pass(), put, "(removed)")
            case ast.Raise() if place.scope is not None:
                self._add(place, node, ast.Pass(), put, "(removed)")
                place.message = True
            case ast.Continue():
                self._add(place, node, ast.Break(), put)
            case ast.Break():
                self._add(place, node, ast.Continue(), put)
            case ast.Match(cases=cases) if len(cases) > 1:
                for case in cases:
                    rest = [other for other in cases if other is not case]
                    self._add(place, case.pattern, ast.Match(node.subject, rest), put, "(case removed)")
            case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("__"):
                return
            case ast.AnnAssign(target=ast.Name(id=name)) if name.startswith("__"):
                return
        if isinstance(node, ast.If | ast.While):
            self._turned(node.test, _put_field(node, "test"), place)
        if isinstance(node, ast.AugAssign) and type(node.op) in _SWAPPED:
            swapped = _swapped(node.op)
            new = ast.AugAssign(node.target, swapped, node.value)
            self._add(place, node, new, _put_field(node, "op", swapped))
        self._children(node, place, prefix=prefix)

    def _children(
        self, node: ast.AST, place: _Place, *, only: tuple[str, ...] | None = None, prefix: str | None = None
    ) -> None:
        for name, value in ast.iter_fields(node):
            if (only is not None and name not in only) or name in ("annotation", "returns", "type_params"):
                continue
            if isinstance(value, list):
                for index, item in enumerate(value):
                    self._child(item, _put_item(value, index), place, prefix)
            else:
                self._child(value, _put_field(node, name), place, prefix)

    def _child(self, node: object, put: Put, place: _Place, prefix: str | None) -> None:
        if isinstance(node, ast.stmt):
            self._statement(node, put, place, prefix)
        elif isinstance(node, ast.ExceptHandler):
            self._handler(node, self._of_handler(node, place), prefix)
        elif isinstance(node, ast.AST):
            self._expression(node, put, place)

    def _of_handler(self, node: ast.ExceptHandler, place: _Place) -> _Place:
        # what an exception class does is noticed where the handler runs, or where it no longer does
        return _Place(place.scope, place.first_line, place.names, node.lineno, node.body[0].lineno, place.digest)

    def _handler(self, node: ast.ExceptHandler, place: _Place, prefix: str | None) -> None:
        if isinstance(node.type, ast.Tuple) and len(node.type.elts) > 1:
            for left_out in node.type.elts:
                rest: list[ast.expr] = [other for other in node.type.elts if other is not left_out]
                new = ast.Tuple(rest, ast.Load())
                self._add(place, f"except {ast.unparse(left_out)}", new, _put_field(node, "type"), "(not caught)")
        self._statements(node.body, place, prefix)

    def _expression(self, node: ast.AST, put: Put, place: _Place) -> None:
        match node:
            case ast.Call() if _is_log(node):
                self.wordings += 1
                return
            case ast.Call():
                self._call(node, place)
                if isinstance(node.func, ast.Name) and node.func.id in _NO_ARGUMENTS:
                    if node.args:
                        self._expression(node.args[0], _put_item(node.args, 0), place)
                    return
            case ast.Constant():
                self._constant(node, put, place)
                return
            case ast.JoinedStr():
                self._joined(node, place)
                return
            case ast.UnaryOp(op=ast.Not()):
                self._add(place, node, node.operand, put)
            case ast.Lambda():
                self._add(place, node, ast.Lambda(node.args, ast.Constant(None)), put)
            case _:
                self._operators(node, put, place)
        self._conditions(node, place)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _SETS_OF_CHARACTERS:
            self._expression(node.func, _put_field(node, "func"), place)
            return
        self._children(node, place)

    def _operators(self, node: ast.AST, put: Put, place: _Place) -> None:
        match node:
            case ast.Compare():
                for index, operator in enumerate(node.ops):
                    new = _swapped(operator)
                    shown = ast.Compare(node.left, [*node.ops[:index], new, *node.ops[index + 1 :]], node.comparators)
                    self._add(place, node, shown, _put_item(node.ops, index, new))
            case ast.BoolOp():
                new = _swapped(node.op)
                self._add(place, node, ast.BoolOp(new, node.values), _put_field(node, "op", new))
                for index in range(len(node.values) if len(node.values) > 2 else 0):
                    rest = node.values[:index] + node.values[index + 1 :]
                    self._add(place, node, ast.BoolOp(node.op, rest), put)
            case ast.BinOp() if type(node.op) in _SWAPPED and not _is_text(node) and not _is_type(node):
                new = _swapped(node.op)
                self._add(place, node, ast.BinOp(node.left, new, node.right), _put_field(node, "op", new))
            case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
                self._add(place, node, ast.UnaryOp(ast.UAdd(), node.operand), put)

    def _conditions(self, node: ast.AST, place: _Place) -> None:
        """Turn conditions that nothing else changes: a name, a call."""
        tests: list[tuple[ast.expr, Put]] = []
        if isinstance(node, ast.IfExp):
            tests = [(node.test, _put_field(node, "test"))]
        elif isinstance(node, ast.comprehension):
            tests = [(test, _put_item(node.ifs, index)) for index, test in enumerate(node.ifs)]
        for test, put in tests:
            self._turned(test, put, place)

    def _turned(self, test: ast.expr, put: Put, place: _Place) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            self._add(place, test, ast.UnaryOp(ast.Not(), test), put)

    def _call(self, node: ast.Call, place: _Place) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            new = _METHODS[node.func.attr]
            old = f"{_short(ast.unparse(node.func.value))}.{node.func.attr}()"
            attribute = ast.Attribute(node.func.value, new, ast.Load())
            self._add(place, old, ast.copy_location(attribute, node.func), _put_field(node, "func"), f".{new}()")
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                rest = node.keywords[:index] + node.keywords[index + 1 :]
                old = f"{_short(ast.unparse(node.func))}({keyword.arg}={ast.unparse(keyword.value)})"
                self._add(place, old, node, _put_field(node, "keywords", rest), "(argument left out)")

    def _constant(self, node: ast.Constant, put: Put, place: _Place) -> None:
        value = node.value
        new: object
        if isinstance(value, bool):
            new = not value
        elif isinstance(value, int | float):
            new = value + 1
        elif isinstance(value, str):
            if place.message or any(char.isspace() for char in value.strip("\n")):
                self.wordings += 1
                return
            new = f"XX{value}XX"
        elif isinstance(value, bytes):
            new = b"XX" + value
        else:
            return
        self._add(place, node, ast.Constant(new), put)

    def _joined(self, node: ast.JoinedStr, place: _Place) -> None:
        texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        wording = place.message or any(char.isspace() for text in texts for char in str(text))
        if wording:
            self.wordings += 1
        for index, part in enumerate(node.values):
            if isinstance(part, ast.FormattedValue):
                self._expression(part.value, _put_field(part, "value"), place)
            elif isinstance(part, ast.Constant) and not wording:
                text = f"XX{part.value!s}"
                self._add(place, ast.unparse(node), ast.Constant(text), _put_item(node.values, index), text)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def _is_log(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGGING):
        return False
    return "log" in ast.unparse(node.func.value).lower()


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _is_type(node: ast.BinOp) -> bool:
    """Tell ``A | B`` of types from a calculation."""

    def named(side: ast.expr) -> bool:
        if isinstance(side, ast.BinOp):
            return _is_type(side)
        text = ast.unparse(side).split("[")[0].split(".")[-1]
        return text in ("str", "int", "float", "bool", "bytes", "dict", "list", "None") or text.strip("_")[:1].isupper()

    return isinstance(node.op, ast.BitOr) and named(node.left) and named(node.right)


def _swapped(operator: ast.AST) -> Any:
    return _SWAPPED[type(operator)]()


def _put_item(items: list[Any], index: int, fixed: ast.AST | None = None) -> Put:
    def put(new: ast.AST) -> None:
        items[index] = new if fixed is None else fixed

    return put


def _put_field(owner: ast.AST, name: str, fixed: object = None) -> Put:
    def put(new: ast.AST) -> None:
        setattr(owner, name, new if fixed is None else fixed)

    return put


def codes_of(tree: ast.Module, path: str, scope: str, first_line: int) -> dict[tuple[str, str, int], CodeType]:
    """Return the code of a function of a module and of the functions in it, by :func:`key_of`."""
    for code in _inner(compile(tree, path, "exec")):
        if code.co_qualname == scope and code.co_firstlineno == first_line:
            return {key_of(found): found for found in (code, *_inner(code))}
    raise LookupError(f"{path} has no function {scope} at line {first_line}")


def key_of(code: CodeType) -> tuple[str, str, int]:
    """Return what tells a function from all others of a program, however it was changed."""
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)
