import gzip
import zlib

import pytest

from airflow_provider_lago.api.unpacking import AnswerTooLong, Body, NotUnpackable

TEXT = b'{"events":[]}' * 20


def raw(data):
    """What some servers call deflate: without the header of zlib."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    None: TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    " GZip ": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "Deflate": raw(TEXT),
}
each_encoding = pytest.mark.parametrize(("encoding", "packed"), PACKED.items())


def unpacked(encoding, packed, longest=1_000, step=1):
    body = Body(encoding, longest)
    for at in range(0, len(packed), step):
        body.add(packed[at : at + step])
    return body.whole()


@each_encoding
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_body_is_the_same_in_pieces_of_any_size(encoding, packed, step):
    assert unpacked(encoding, packed, step=step) == TEXT


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)), b"x" * 900])
def test_a_deflated_body_without_a_header_is_told_by_how_it_begins(data):
    assert unpacked("deflate", raw(data)) == unpacked("deflate", zlib.compress(data)) == data


@each_encoding
@pytest.mark.parametrize("step", [1, 10_000])
def test_a_body_may_be_just_as_long_as_the_bound_and_no_byte_longer(encoding, packed, step):
    assert unpacked(encoding, packed, len(TEXT), step) == TEXT
    with pytest.raises(AnswerTooLong):
        unpacked(encoding, packed, len(TEXT) - 1, step)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_lacks_its_end_is_none(encoding):
    with pytest.raises(NotUnpackable, match="end is missing"):
        unpacked(encoding, PACKED[encoding][:-5])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_nothing_may_follow_the_end(encoding):
    with pytest.raises(NotUnpackable, match="follows"):
        unpacked(encoding, PACKED[encoding] + b"?")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "none"])
def test_what_was_not_asked_for_is_refused_by_name(encoding):
    with pytest.raises(NotUnpackable, match="not asked for"):
        Body(encoding, 10)


@pytest.mark.parametrize("encoding", [None, "", "gzip", "deflate"])
def test_a_body_of_no_bytes_is_empty(encoding):
    body = Body(encoding, 10)
    body.add(b"")
    assert body.whole() == b""
