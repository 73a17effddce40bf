import base64
import json
from urllib.parse import quote

import pytest

from airflow_provider_lago.api.secrecy import Blot, secrets_of

KEYS = ["5f8c1e4a-7b2d-4c3e-9a61-0d8f7e6b5c4a", "Ab/Cd+Ef==", 'qu"o\\te-KEY', "???>>>~~~<<<", "12345678", "k" * 41]
each_key = pytest.mark.parametrize("key", KEYS)


@each_key
@pytest.mark.parametrize("cased", [str, str.lower, str.upper, str.swapcase])
@pytest.mark.parametrize("written", [str, lambda key: quote(key, safe=""), lambda key: json.dumps(key)[1:-1]])
def test_a_key_is_blotted_out_in_each_case_however_it_is_written(key, cased, written):
    shown = Blot(key).text(f"<{written(cased(key))}>")
    assert shown == "<***>"


@each_key
@pytest.mark.parametrize("cased", [str, str.lower, str.upper])
def test_slashes_may_be_escaped(key, cased):
    written = json.dumps(cased(key))[1:-1].replace("/", "\\/")
    assert Blot(key).data(f"<{written}>".encode()) == b"<***>"


@each_key
@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"lago:"])
@pytest.mark.parametrize("after", [b"", b"z", b"yz", b":end"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_no_more_than_the_edges_of_a_key_are_left_inside_of_base64(key, before, after, encode):
    shown = Blot(key).text(encode(before + key.encode() + after).decode())
    head, _, tail = shown.partition("***")
    assert "***" in shown
    # Three bytes are four characters: what is left may hold a byte of the key on either side.
    assert len(head) * 6 // 8 <= len(before) + 1
    assert len(tail.rstrip("=")) * 6 // 8 <= len(after) + 1


@pytest.mark.parametrize("key", ["", "a", "1234567"])
def test_a_short_text_is_no_key_and_may_be_a_word_of_an_answer(key):
    assert Blot(key).text("a 1234567 word") == "a 1234567 word"


def test_the_quick_look_is_for_the_key_as_it_is():
    blot = Blot("Secret/Key", as_it_is=True)
    assert blot.text("Secret/Key SECRET/KEY") == "*** SECRET/KEY"
    assert blot.data(b"Secret/Key SECRET/KEY") == b"*** SECRET/KEY"


def test_bytes_without_the_key_are_the_same_object():
    data = b"x" * 100
    assert Blot(KEYS[0]).data(data) is data


def test_what_blots_out_shows_nothing_of_itself():
    assert repr(Blot("Secret/Key")) == "Blot(***)"


@pytest.mark.parametrize(
    ("proxy", "secrets"),
    [
        (None, set()),
        ("", set()),
        ("http://proxy:3128", set()),
        ("http://user@proxy:3128", set()),
        ("http://user:plain@proxy:3128", {"plain"}),
        ("http://user:p%40ss@proxy:3128", {"p%40ss", "p@ss"}),
    ],
)
def test_the_password_of_a_proxy_is_a_secret_as_it_stands_and_decoded(proxy, secrets):
    assert secrets_of(proxy) == secrets
