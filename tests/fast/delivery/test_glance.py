"""What is found at a glance is what the thorough road finds."""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from airflow_provider_lago.api.events import check_event
from airflow_provider_lago.delivery.events.glance import glance_of
from airflow_provider_lago.delivery.events.shaping import EventShaper, EventShaping
from airflow_provider_lago.sources.rows import Cells

GOOD = {"transaction_id": "t", "external_subscription_id": "s", "code": "c", "timestamp": 1_790_000_000}
FLAT = {"properties": ["a", "b"]}
HUGE = 10**5_000


def glance(record, **settings):
    return glance_of(EventShaper(EventShaping(**settings)))(record)


def thorough(record, **settings):
    shaping = EventShaping(**settings)
    return check_event(EventShaper(shaping).event(record), shaping.timestamp_unit, shaping.zone)


MAPPED = {
    "fields": {"external_subscription_id": "account.id", "code": "metric", "timestamp": "at"},
    "properties": {"a": "a", "b": "n.b"},
}
FOREIGN = {"account": {"id": "s", "plan": "x"}, "metric": "c", "at": "2026-09-21T13:33:20Z", "a": "x", "n": {"b": 2}}


@pytest.mark.parametrize(
    ("settings", "record"),
    [
        ({}, {**GOOD, "properties": {"a": 1, "b": Decimal("7.10"), "c": 1.5, "d": True, "é": "ü"}}),
        ({}, {**GOOD, "properties": {}}),
        ({"exclude": ["x", "properties.b"]}, {**GOOD, "x": 1, "properties": {"a": 1, "b": [1]}}),
        (FLAT, {**GOOD, "a": 1, "b": "x", "left over": [1]}),
        (FLAT, Cells({**GOOD, "a": 1, "b": "x", "left over": None})),
        ({"properties": ["a"]}, {**GOOD, "a": 1}),
        ({"properties": ["a", "b?"]}, {**GOOD, "a": 1, "b": None}),
        ({"properties": ["a", "b?"]}, {**GOOD, "a": 1}),
        ({"properties": {"x": "a", "y": "b"}}, {**GOOD, "a": 1, "b": 2}),
        ({**FLAT, "constants": {"properties.z": "eu", "code": "other"}}, {**GOOD, "a": 1, "b": 2}),
        ({"constants": {"properties.z": "eu"}}, GOOD),
        ({"constants": {"properties": {"z": "eu"}}}, GOOD),
        ({"fields": {"properties": "p"}}, {**GOOD, "p": {"a": 1}}),
        ({"fields": {"transaction_id": "no", "properties.a": "a"}}, {**GOOD, "no": "t", "a": 1}),
        ({"transaction_id": ["a"], **FLAT}, {**GOOD, "transaction_id": None, "a": 1, "b": 2}),
        ({"transaction_id": ["day"]}, {**GOOD, "transaction_id": "", "day": "x", "properties": {}}),
        ({"transaction_id": lambda record: record["a"], **FLAT}, {**GOOD, "transaction_id": "", "a": "x", "b": 2}),
        ({"transaction_id": "hash", **FLAT}, {**GOOD, "a": "x", "b": 2}),
        ({"transaction_id": "hash", **MAPPED}, FOREIGN),
        ({"transaction_id": "hash", **MAPPED}, {**FOREIGN, "a": Decimal("1.25")}),
        ({"transaction_id": "hash", **MAPPED}, {**FOREIGN, "a": Decimal("1.50")}),
        ({"transaction_id": "hash", **MAPPED}, {**FOREIGN, "a": Decimal("1E+2")}),
        ({"transaction_id": "hash", **MAPPED}, {**FOREIGN, "n": {"b": Decimal("1.50")}}),
        ({"transaction_id": "hash", **FLAT}, {**GOOD, "transaction_id": "", "a": "x", "b": Decimal("1.50")}),
        ({"transaction_id": "hash", **FLAT}, {**GOOD, "transaction_id": "", "a": 1, "b": 2.0}),
        ({"transaction_id": "hash", **MAPPED}, {**FOREIGN, "a": 1.5}),
        ({"transaction_id": "hash", **MAPPED, "timestamp_unit": "ms"}, {**FOREIGN, "at": 1_790_000_000_123}),
        ({**MAPPED, "transaction_id": "hash", "zone": timezone(timedelta(hours=2))}, {**FOREIGN, "at": "2026-09-21"}),
        ({"transaction_id": "hash", "properties": ["b", "a"]}, {**GOOD, "transaction_id": None, "a": 1, "b": 2}),
        ({"transaction_id": "hash", "properties": ["b", "a?"]}, {**GOOD, "transaction_id": None, "a": 1, "b": 2}),
        (
            {"transaction_id": "hash"},
            {**GOOD, "transaction_id": None, "properties": {"z": 1, "é": "2", "B": 3, "a": 4}},
        ),
    ],
)
def test_what_is_plain_is_found_at_a_glance_and_is_the_same(settings, record):
    found = glance(record, **settings)
    assert found is not None
    assert found == thorough(record, **settings)


@pytest.mark.parametrize(
    ("settings", "record"),
    [
        ({}, None),
        ({}, {**GOOD, "properties": {"a": None}}),
        ({}, {**GOOD, "properties": {"a": {"b": 1}}}),
        ({}, {**GOOD, "properties": {1: 1}}),
        ({}, {**GOOD, "properties": MappingProxyType({"a": 1})}),
        ({}, GOOD),
        ({}, MappingProxyType({**GOOD, "properties": {}})),
        ({}, defaultdict(str, {**GOOD, "properties": {}})),
        ({}, {**GOOD, "properties": {}, "unknown": 1}),
        ({}, {**GOOD, "properties": {}, "precise_total_amount_cents": "1.5"}),
        ({}, {**GOOD, "transaction_id": 5, "properties": {}}),
        ({}, {**GOOD, "transaction_id": " ", "properties": {}}),
        ({}, {**GOOD, "external_subscription_id": " s", "properties": {}}),
        ({}, {**GOOD, "external_subscription_id": "", "properties": {}}),
        ({}, {**GOOD, "external_subscription_id": 5, "properties": {}}),
        ({}, {**GOOD, "code": " ", "properties": {}}),
        ({}, {**GOOD, "code": 5, "properties": {}}),
        ({}, {**GOOD, "timestamp": 5, "properties": {}}),
        ({}, {**GOOD, "timestamp": True, "properties": {}}),
        ({}, {**GOOD, "properties": {"a": "\0"}}),
        ({}, {**GOOD, "properties": {"\0": "a"}}),
        ({}, {**GOOD, "properties": {"a": "\\u0000"}}),
        ({}, {**GOOD, "properties": {"a": "\udc80"}}),
        ({}, {**GOOD, "properties": {"a": math.nan}}),
        ({}, {**GOOD, "properties": {"a": Decimal("sNaN")}}),
        ({}, {**GOOD, "properties": {"a": Decimal("1E+308")}}),
        ({}, {**GOOD, "properties": {"a": HUGE}}),
        ({}, {**GOOD, "transaction_id": None, "properties": {}}),
        (FLAT, {**GOOD, "a": 1}),
        (FLAT, {**GOOD, "a": 1, "b": None}),
        (FLAT, {**GOOD, "a": 1, "b": 2, "properties": {"c": 3}}),
        (FLAT, {**GOOD, "a": 1, "b": 2, "precise_total_amount_cents": None}),
        ({"properties": ["a?"]}, GOOD),
        ({"properties": {"x.y": "a", "z": "b"}}, {**GOOD, "a": 1, "b": 2}),
        ({"properties": {'"': "a", "z": "b"}}, {**GOOD, "a": 1, "b": 2}),
        ({**FLAT, "constants": {"properties.z": {"nested": 1}}}, {**GOOD, "a": 1, "b": 2}),
        ({**FLAT, "constants": {"precise_total_amount_cents": "1"}}, {**GOOD, "a": 1, "b": 2}),
        ({**FLAT, "fields": {"properties": "p"}}, {**GOOD, "a": 1, "b": 2, "p": {}}),
        ({**FLAT, "edits": {"code": "x"}}, {**GOOD, "a": 1, "b": 2}),
        ({"fields": {"transaction_id": "no", "properties.a": "a"}}, {**GOOD, "a": 1}),
        ({"fields": {"transaction_id": "o.no", "properties.a": "a"}}, {**GOOD, "a": 1}),
        ({"transaction_id": "hash", **FLAT}, {**GOOD, "transaction_id": None, "a": "\udc80", "b": 1}),
        ({"transaction_id": "hash", **FLAT}, {**GOOD, "transaction_id": None, "a": HUGE, "b": 1}),
        ({"transaction_id": lambda record: 7}, {**GOOD, "transaction_id": None, "properties": {}}),
    ],
)
def test_what_is_not_plain_wants_a_closer_look(settings, record):
    assert glance(record, **settings) is None


_ODD = st.sampled_from([Decimal("NaN"), 2**70, {"n": 1}, datetime(2026, 9, 21, tzinfo=UTC)]) | st.sampled_from(
    ["", " ", "a", " a", "a\0", "\\u0000", "\ud800", 5, 5.5, 0, True, None, Decimal("1.50"), Decimal("2.5")],
)
_TIMES = ["1790000000", "2026-06-01", 1_790_000_000_000, "x", None, 1.5, 1790000000.25]
_PROPERTIES = st.dictionaries(st.sampled_from(["a", "b", "\0", 5]), _ODD, max_size=3)
_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ["transaction_id", "external_subscription_id", "code", "a", "b", "o.id", "precise_total_amount_cents"], _ODD
        ),
        "timestamp": st.sampled_from(_TIMES),
        "properties": _PROPERTIES | _ODD,
        "o": st.fixed_dictionaries({}, optional={"id": _ODD}) | _ODD,
    },
)
_FULL = {**GOOD, "a": 1, "b": "x", "o": {"id": "s"}}


@st.composite
def _records(draw):
    record = {**_FULL, "properties": {"a": 1}} if draw(st.booleans()) else dict(_FULL)
    changes = draw(_CHANGES)
    for name in draw(st.lists(st.sampled_from(sorted(changes)), max_size=2)) if changes else []:
        record[name] = changes[name]
    if draw(st.booleans()):
        record.pop(draw(st.sampled_from(sorted(record))))
    return record


_SETTINGS = {
    "fields": [
        {"external_subscription_id": "o.id"},
        {"code": "a", "timestamp": "timestamp"},
        {"properties": "o"},
        {"properties.x": "a", "properties.y": "b"},
        {"transaction_id": "b"},
        {"properties.x.y": "a"},
    ],
    "properties": [["a", "b"], ["a", "b?"], ["a"], {"z": "b", "q": "o.id"}, {"a.b": "a"}],
    "constants": [{"code": "k"}, {"properties.k": 1}, {"properties": {"k": 1}}, {"external_subscription_id": "k"}],
    "exclude": [["a"], ["precise_total_amount_cents", "properties", "o", "o.id", "a", "b"]],
    "transaction_id": ["hash", ["a"], ["o.id", "b"]],
    "timestamp_unit": ["ms"],
    "edits": [{"code": "edited"}],
}


@st.composite
def _shapings(draw):
    chosen = draw(st.lists(st.sampled_from(sorted(_SETTINGS)), max_size=3, unique=True))
    return {name: draw(st.sampled_from(_SETTINGS[name])) for name in chosen}


@settings(max_examples=400)
@given(_records(), _shapings(), st.booleans())
def test_whatever_is_found_at_a_glance_is_what_the_thorough_road_finds(record, shaping, cells):
    record = Cells(record) if cells else record
    try:
        EventShaper(EventShaping(**shaping))
    except ValueError:  # settings that contradict each other
        reject()
    found = glance(record, **shaping)
    if found is not None:
        assert found == thorough(record, **shaping)
