import json

import pytest

from airflow_provider_lago.api.plain_text import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("usage of Käse, 5 €", "usage of Käse, 5 €"),
        ("", ""),
        ("a\nb", "a\\u000ab"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0041", "\\udb40\\udc41"),
        ("\ud800", "\\ud800"),
        ("\0\x7f", "\\u0000\\u007f"),
    ],
)
def test_what_is_not_printable_is_written_as_json_writes_it(text, shown):
    assert plain(text) == shown
    assert plain(text).isprintable()
    assert json.loads(f'"{shown}"') == text
