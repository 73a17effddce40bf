"""Expressions of billable metrics: ``round(event.properties.mb / 1024, 2)`` and the like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DivisionByZero, InvalidOperation

Value = Decimal | str
Scope = Callable[[str], Value]
Node = Callable[[Scope], Value]

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|'([^']*)'|\"([^\"]*)\"|(event\.[A-Za-z_][\w.]*)|([a-z]+)|([-+*/(),]))")
_OPERATORS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": Decimal.__add__,
    "-": Decimal.__sub__,
    "*": Decimal.__mul__,
    "/": Decimal.__truediv__,
}
_ROUNDINGS = {"ceil": ROUND_CEILING, "floor": ROUND_FLOOR, "round": ROUND_HALF_UP}


class InvalidExpression(ValueError):
    """The text is no expression."""


class EvaluationFailed(ValueError):
    """The expression cannot be computed for this event; the text is what Lago answers."""


def parse(text: str) -> Node:
    """
    Compile an expression.

    :raises InvalidExpression: if it is not one.
    """
    parser = _Parser(text)
    node = parser.sum()
    if parser.peek() is not None:
        raise InvalidExpression(text)
    return node


def evaluate(node: Node, event: Mapping[str, object]) -> str:
    """
    Compute an expression for an event, as the text that Lago stores.

    :raises EvaluationFailed: if a variable is missing or a value is no number.
    """

    def lookup(name: str) -> Value:
        path = name.split(".")[1:]
        properties = event.get("properties")
        if path[0] == "properties" and isinstance(properties, Mapping):
            value = properties.get(".".join(path[1:]))
        else:
            value = event.get(path[0])
        if value is None or isinstance(value, (dict, list)):
            raise EvaluationFailed(f"Variable: {path[-1]} not found")
        return str(value)

    return plain(node(lookup))


def plain(value: Value) -> str:
    """A number without exponent and with at least one decimal, as Ruby writes a BigDecimal."""
    if isinstance(value, str):
        return value
    text = format(value, "f")
    whole, _, fraction = text.partition(".")
    whole = "0" if whole == "-0" and not fraction.strip("0") else whole
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def _number(value: Value) -> Decimal:
    if isinstance(value, Decimal):
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise EvaluationFailed(f"Failed to parse: {value} as a decimal") from None
    if not number.is_finite():
        raise EvaluationFailed(f"Failed to parse: {value} as a decimal")
    return number


def _binary(operator: str, left: Node, right: Node) -> Node:
    compute = _OPERATORS[operator]

    def run(scope: Scope) -> Value:
        try:
            return compute(_number(left(scope)), _number(right(scope)))
        except (DivisionByZero, InvalidOperation):
            raise EvaluationFailed("Division by zero") from None

    return run


def _function(name: str, arguments: list[Node]) -> Node:
    if name == "concat" and arguments:
        return lambda scope: "".join(
            value if isinstance(value, str) else plain(value) for value in (node(scope) for node in arguments)
        )
    if name in _ROUNDINGS and 1 <= len(arguments) <= 2:

        def rounded(scope: Scope) -> Value:
            digits = int(_number(arguments[1](scope))) if len(arguments) == 2 else 0
            number = _number(arguments[0](scope))
            return number.quantize(Decimal(1).scaleb(-digits), rounding=_ROUNDINGS[name])

        return rounded
    raise InvalidExpression(name)


class _Parser:
    """Recursive descent: sum > product > unary > atom."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, ...]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise InvalidExpression(text)
            kind = match.lastindex or 0
            self._tokens.append((str(kind), match.group(kind)))
            position = match.end()

    def peek(self) -> str | None:
        """The next operator or word, None at the end."""
        return self._tokens[0][1] if self._tokens else None

    def _take(self, *wanted: str) -> str | None:
        if self._tokens and self._tokens[0][0] == "6" and self._tokens[0][1] in wanted:
            return self._tokens.pop(0)[1]
        return None

    def sum(self) -> Node:
        node = self._product()
        while operator := self._take("+", "-"):
            node = _binary(operator, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._unary()
        while operator := self._take("*", "/"):
            node = _binary(operator, node, self._unary())
        return node

    def _unary(self) -> Node:
        if self._take("-"):
            operand = self._unary()
            return lambda scope: -_number(operand(scope))
        return self._atom()

    def _atom(self) -> Node:
        if self._take("("):
            node = self.sum()
            self._expect(")")
            return node
        if not self._tokens:
            raise InvalidExpression("unexpected end")
        kind, text = self._tokens.pop(0)
        if kind == "1":
            number = Decimal(text)
            return lambda _scope: number
        if kind in ("2", "3"):
            return lambda _scope: text
        if kind == "4":
            return lambda scope: scope(text)
        if kind == "5":
            self._expect("(")
            arguments = [self.sum()]
            while self._take(","):
                arguments.append(self.sum())
            self._expect(")")
            return _function(text, arguments)
        raise InvalidExpression(text)

    def _expect(self, token: str) -> None:
        if self._take(token) is None:
            raise InvalidExpression(f"{token} expected")
