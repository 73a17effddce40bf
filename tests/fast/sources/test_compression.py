"""Compressed files: all of their content, or an error that says where it ends."""

import bz2
import gzip
import importlib
import io
import random
import sys
import tracemalloc
import zlib

import pytest

from airflow_provider_lago.sources.compression import decompressed, inner_name
from airflow_provider_lago.sources.json_lines import LONGEST_LINE, read_json_lines
from airflow_provider_lago.sources.rows import SourceError, Unreadable

zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")

LINES = b"".join(b'{"n":%d,"x":"%d"}\n' % (n, n * 7919 % 1000) for n in range(60_000))


def pack_zstd(data):
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS = {"gzip": gzip.compress, "bz2": bz2.compress, "zstd": pack_zstd}
SUFFIX = {"gzip": ".gz", "bz2": ".bz2", "zstd": ".zst"}

each_kind = pytest.mark.parametrize("kind", PACKERS)


def unpacked(data, origin="a.jsonl"):
    return decompressed(io.BytesIO(data), origin)


def lines_until_error(data):
    stream, lines = unpacked(data, "a.jsonl.gz"), []
    with pytest.raises(SourceError) as error:
        lines.extend(iter(stream.readline, b""))
    return lines, str(error.value)


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("usage.jsonl.gz", "usage.jsonl"),
        ("s3://bucket/a.b/usage.CSV.GZ", "s3://bucket/a.b/usage.CSV"),
        ("usage.json.gzip", "usage.json"),
        ("usage.tsv.bz2", "usage.tsv"),
        ("usage.csv.zst", "usage.csv"),
        ("usage.csv.zstd", "usage.csv"),
        ("usage.jsonl", "usage.jsonl"),
        ("folder/.gz", "folder/.gz"),
    ],
)
def test_the_ending_of_a_compression_is_taken_off_a_name(name, inner):
    assert inner_name(name) == inner


class TestContent:
    @each_kind
    def test_compressed_data_is_read_whatever_it_is_called(self, kind):
        assert unpacked(PACKERS[kind](LINES), "usage.jsonl").read() == LINES

    def test_plain_data_is_handed_on_untouched_whatever_it_is_called(self):
        stream = io.BytesIO(LINES)
        assert decompressed(stream, "usage.jsonl.gz") is stream
        assert stream.tell() == 0

    @each_kind
    def test_several_pieces_are_read_one_after_the_other(self, kind):
        pieces = [b"a\n", b"", LINES, b"b\n" * 200_000]
        packed = b"".join(PACKERS[kind](piece) for piece in pieces)
        assert unpacked(packed).read() == b"".join(pieces)

    def test_thousands_of_small_pieces_are_read(self):
        assert unpacked(gzip.compress(b"a\n") * 5_000).read() == b"a\n" * 5_000

    def test_zeros_behind_gzip_data_say_nothing(self):
        packed = gzip.compress(b"a\n") + b"\0" * 300_000 + gzip.compress(b"b\n") + b"\0" * 10
        assert unpacked(packed).read() == b"a\nb\n"

    def test_frames_that_are_to_be_skipped_say_nothing(self):
        skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
        assert unpacked(skipped + zstd.compress(b"a\n") + skipped).read() == b"a\n"

    @each_kind
    def test_nothing_compressed_is_an_empty_file(self, kind):
        assert unpacked(PACKERS[kind](b""), "a.jsonl" + SUFFIX[kind]).read() == b""

    def test_an_empty_file_is_empty_and_one_that_should_be_compressed_was_cut_off(self):
        assert unpacked(b"").read() == b""
        with pytest.raises(SourceError, match=r"'a\.jsonl\.gz' is empty, .* cut off"):
            unpacked(b"", "a.jsonl.gz")

    @pytest.mark.parametrize(
        ("head", "says"),
        [(b"PK\x03\x04", "a zip archive"), (b"\xfd7zXZ\0", "is xz"), (b"\x04\x22\x4d\x18", "is lz4")],
    )
    def test_other_compressions_are_refused_by_name(self, head, says):
        with pytest.raises(SourceError, match=says):
            unpacked(head + b"\0" * 100)

    def test_zstd_without_its_library_says_what_to_install(self, monkeypatch):
        def missing(name):
            raise ImportError(name)

        monkeypatch.setattr("importlib.import_module", missing)
        with pytest.raises(SourceError, match=r"airflow-provider-lago\[zstd\]"):
            unpacked(zstd.compress(b"a"))


class TestSeeking:
    @each_kind
    def test_any_place_can_be_sought_forward_and_back(self, kind):
        stream = unpacked(PACKERS[kind](LINES))
        dice = random.Random(5)
        for _ in range(20):
            place = dice.randrange(len(LINES))
            stream.seek(place)
            assert stream.tell() == place
            assert stream.readline() == LINES[place : LINES.find(b"\n", place) + 1]
        assert stream.seek(0, io.SEEK_END) == len(LINES)
        assert stream.read() == b""

    @each_kind
    def test_a_place_behind_the_end_has_no_lines(self, kind):
        stream = unpacked(PACKERS[kind](b"a\n"))
        stream.seek(1_000)
        assert stream.readline() == b""


class TestDamage:
    @each_kind
    def test_cut_data_gives_its_whole_lines_and_then_an_error_with_the_place(self, kind):
        packed = PACKERS[kind](LINES)
        lines, says = lines_until_error(packed[: len(packed) // 2])
        assert LINES.startswith(b"".join(lines))
        assert kind == "bz2" or len(lines) > 10_000  # a block of bz2 is 900 kB
        assert "'a.jsonl.gz'" in says
        assert f"byte {len(packed) // 2:,} of the file" in says
        assert "breaks off" in says

    @each_kind
    def test_data_cut_anywhere_is_never_taken_for_whole(self, kind):
        packed = PACKERS[kind](b'{"a":1}\n' * 30)
        for size in range(6 if kind != "bz2" else 10, len(packed)):
            _, says = lines_until_error(packed[:size])
            assert kind in says

    @each_kind
    def test_a_second_piece_that_is_cut_or_damaged_does_not_go_unnoticed(self, kind):
        first, second = PACKERS[kind](b"a\n"), PACKERS[kind](b"b\n")
        assert lines_until_error(first + second[:-1])[0][:1] == [b"a\n"]
        assert lines_until_error(first + b"garbage" + second)[0] == [b"a\n"]

    def test_a_checksum_that_does_not_match_says_that_what_was_read_may_be_wrong(self):
        packed = bytearray(gzip.compress(LINES))
        packed[-8] ^= 1
        _, says = lines_until_error(bytes(packed))
        assert "may be wrong" in says

    @each_kind
    def test_flipped_bits_end_in_an_error_and_nothing_else(self, kind):
        packed = PACKERS[kind](LINES[:100_000])
        dice = random.Random(7)
        for _ in range(30):
            damaged = bytearray(packed)
            damaged[dice.randrange(20, len(packed) - 8)] ^= 1 << dice.randrange(8)
            stream = unpacked(bytes(damaged))
            try:
                assert stream.read() == LINES[:100_000]  # a bit that says nothing: zstd's and bz2's have some
            except SourceError:
                continue

    def test_the_store_that_does_not_answer_is_not_damage(self):
        class Store(io.BytesIO):
            def read(self, size=-1):
                if self.tell() > 1_000:
                    raise OSError("connection reset")
                return super().read(min(size, 1_001))

        stream = decompressed(Store(gzip.compress(random.Random(1).randbytes(10_000))), "a.gz")
        with pytest.raises(OSError, match="connection reset") as error:
            stream.read()
        assert not isinstance(error.value, SourceError)


class TestMemory:
    @each_kind
    def test_a_bomb_costs_a_line_and_not_the_memory(self, kind):
        packed = PACKERS[kind](b'{"a":1}\n' + b"x" * 100_000_000 + b'\n{"a":2}\n')
        assert len(packed) < 200_000
        tracemalloc.start()
        try:
            rows = list(read_json_lines(unpacked(packed), "a.jsonl"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [type(row.data) for row in rows] == [bytes, Unreadable, bytes]
        assert peak < 6 * LONGEST_LINE < 100_000_000 / 3

    def test_a_window_that_would_take_the_memory_is_refused(self):
        options = {zstd.CompressionParameter.window_log: 28, zstd.CompressionParameter.enable_long_distance_matching: 1}
        compressor = zstd.ZstdCompressor(options=options)
        packed = compressor.compress(LINES) + compressor.flush()
        with pytest.raises(SourceError, match=r"(?i)window|memory"):
            unpacked(packed).read()


def test_gzip_data_that_zlib_alone_would_take_is_not_taken():
    stream = io.BytesIO(zlib.compress(b"a\n"))
    assert decompressed(stream, "a.jsonl") is stream
