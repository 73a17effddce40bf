"""From ``sql`` and the Airflow connection of a database to the rows of the statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_lago.api.webhook import SECRET_NAME
from airflow_provider_lago.sources.rows import SourceError
from airflow_provider_lago.sources.sql import SEVERAL, SqlSource

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.providers.common.sql.hooks.sql import DbApiHook

#: What ``sql`` ends in where it names a file.
EXTENSION = ".sql"

#: Shorter texts are words of messages rather than secrets.
_SHORTEST_SECRET = 4


def open_sql(sql: Any, parameters: Any, conn_id: Any, tell: Callable[[str], None]) -> SqlSource:
    """
    Return the rows of a statement; the database is asked when they are read.

    :param sql: The statement, its template rendered.
    :param parameters: Values for its placeholders, or None.
    :param conn_id: Airflow connection of the database.
    :param tell: Gets lines for the log.
    :raises SourceError: if one of them is wrong.
    """
    statement = _statement(sql)
    values = _parameters(parameters)
    if not isinstance(conn_id, str) or not conn_id.strip():
        raise SourceError("sql needs sql_conn_id: the Airflow connection of the database")
    hook, secrets = _hook(conn_id)
    return SqlSource(
        statement,
        values,
        hook.get_conn,
        name=f"connection {conn_id!r}",
        clean=lambda text: _without(secrets, text),
        tell=tell,
    )


def load_sql(operator: BaseOperator, context: Context, sql: Any) -> Any:
    """
    Return the statement of the file that ``sql`` names, its templates rendered; anything else as it is.

    Airflow's own way, ``template_ext``, holds for all templated arguments: ``files`` and others would be replaced by
    what the files hold.

    :param operator: The operator, whose DAG says where files lie.
    :param context: Of the task.
    :param sql: What the operator was given, its template rendered.
    :raises SourceError: if there is no such file.
    """
    if not isinstance(sql, str) or not sql.endswith(EXTENSION):
        return sql
    from jinja2 import TemplateNotFound

    environment = operator.get_template_env()
    loader = environment.loader
    try:
        if loader is None:
            raise TemplateNotFound(sql)
        text = loader.get_source(environment, sql)[0]
    except TemplateNotFound:
        places = ", ".join(getattr(loader, "searchpath", ())) or "the folder of the DAG"
        raise SourceError(
            f"sql names the file {sql!r}, which is not in {places} (template_searchpath of the DAG adds folders); a "
            "statement that ends so needs a semicolon behind it"
        ) from None
    rendered = operator.render_template(text, context, environment)
    if isinstance(rendered, str) and rendered.endswith(EXTENSION):
        return f"{rendered};"  # not the name of a file once more
    return rendered


def _statement(sql: Any) -> str:
    if not isinstance(sql, str):
        raise SourceError(f"sql must be one statement, as text, not a {type(sql).__name__}")
    statement = sql.strip().rstrip("; \t\r\n")
    if not statement:
        raise SourceError("sql is empty; an upstream task or a template may have given nothing")
    if ";" in statement and len(list(_statements(statement))) > 1:
        raise SourceError(SEVERAL)
    return statement


def _statements(text: str) -> Iterator[str]:
    """Yield the statements of a text; not what consists of comments alone."""
    import sqlparse  # a dependency of Airflow's common SQL provider
    from sqlparse.lexer import tokenize
    from sqlparse.tokens import Comment, Punctuation, Whitespace

    beside = (Comment, Whitespace, Punctuation)
    tokens: Callable[[str], Iterator[tuple[Any, str]]] = tokenize
    for part in sqlparse.split(text):
        if any(all(kind not in family for family in beside) for kind, _ in tokens(part)):
            yield part


def _parameters(parameters: Any) -> Mapping[str, Any] | Sequence[Any] | None:
    if parameters is None:
        return None
    if isinstance(parameters, Mapping):
        return dict(parameters)
    if isinstance(parameters, (str, bytes)) or not isinstance(parameters, Iterable):
        raise SourceError(
            f"sql_parameters must be a list or a dict of values, not a {type(parameters).__name__}: "
            "a template gives text unless it stands for a single value"
        )
    return list(parameters)


def _hook(conn_id: str) -> tuple[DbApiHook, list[str]]:
    """Return the hook of a database, and the secrets of its connection."""
    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise SourceError(
            "sql needs Airflow's common SQL provider: pip install 'airflow-provider-lago[sql]', and the provider of "
            "the database"
        ) from None
    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise SourceError(f"sql_conn_id: there is no connection {conn_id!r}") from None
    secrets = sorted(set(_secrets(connection)), key=len, reverse=True)
    what = f"sql_conn_id: connection {conn_id!r} of type {connection.conn_type!r}"
    try:
        hook = connection.get_hook()
    except Exception as error:  # noqa: BLE001 - an unknown type, a driver that is not installed, extras that are wrong
        said = _without(secrets, f"{type(error).__name__}: {error}")
        raise SourceError(f"{what} has no hook here: {said}. Is the provider of that database installed?") from None
    if not isinstance(hook, DbApiHook):
        raise SourceError(f"{what} is not one to a database: its hook is a {type(hook).__name__}")
    return hook, secrets


def _secrets(connection: Any) -> Iterator[str]:
    """Yield what no message may show: the password, and extras that are called like one, also as URLs have them."""
    extra = connection.extra_dejson
    found = [connection.password, *(value for name, value in extra.items() if SECRET_NAME.search(name))]
    for secret in found:
        if isinstance(secret, str) and len(secret) >= _SHORTEST_SECRET:
            yield from (secret, quote(secret, safe=""), quote_plus(secret))


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
