"""A remote file as a stream: every byte once and in order, the next chunk being fetched meanwhile."""

import io
import threading

import pytest

from airflow_provider_lago.sources.read_ahead import ReadAhead

CONTENT = bytes(range(256)) * 40  # 10,240 bytes


class Store:
    """Keeps what was asked for; may fail."""

    def __init__(self, content=CONTENT):
        self.content = content
        self.asked = []
        self.fails_at = None
        self.threads = set()

    def fetch(self, begin, end):
        self.threads.add(threading.get_ident())
        self.asked.append((begin, end))
        if self.fails_at == begin:
            raise OSError("no store")
        return self.content[begin:end]


def opened(store, chunk=1_000):
    return io.BufferedReader(ReadAhead(store.fetch, len(CONTENT), chunk), 256)


def test_all_of_it_comes_in_order_and_each_chunk_is_asked_for_once():
    store = Store()
    with opened(store) as stream:
        assert stream.read() == CONTENT
    assert store.asked == [(begin, min(len(CONTENT), begin + 1_000)) for begin in range(0, len(CONTENT), 1_000)]


def test_what_comes_next_is_fetched_by_another_thread_before_it_is_asked_for():
    second = threading.Event()

    def fetch(begin, end):
        if begin == 1_000:
            second.set()
        return CONTENT[begin:end]

    with io.BufferedReader(ReadAhead(fetch, len(CONTENT), 1_000), 100) as stream:
        stream.read(10)
        assert second.wait(10)


@pytest.mark.parametrize("places", [(9_000, 0, 5_000), (1, 10_239, 10_240), (999, 1_000, 1_001)])
def test_it_can_be_read_from_anywhere(places):
    with opened(Store()) as stream:
        for place in places:
            assert stream.seek(place) == place
            assert stream.read(50) == CONTENT[place : place + 50]
            assert stream.tell() == min(place + 50, max(place, len(CONTENT)))


def test_it_can_be_read_from_its_end():
    with opened(Store()) as stream:
        assert stream.seek(-8, io.SEEK_END) == len(CONTENT) - 8
        assert stream.read() == CONTENT[-8:]


def test_jumping_about_fetches_nothing_that_was_not_asked_for():
    store = Store()
    with opened(store) as stream:
        stream.seek(9_000)
        stream.read(10)
        stream.seek(5_000)
        stream.read(10)
    assert [begin for begin, _ in store.asked] == [9_000, 5_000]


def test_an_error_of_the_store_comes_where_its_bytes_would_have():
    store = Store()
    store.fails_at = 2_000
    with opened(store) as stream:
        assert stream.read(2_000) == CONTENT[:2_000]
        with pytest.raises(OSError, match="no store"):
            stream.read(1)


def test_a_store_that_gives_less_than_it_has_is_an_error():
    store = Store(CONTENT[:1_500])
    with opened(store) as stream, pytest.raises(OSError, match=r"gave 500 bytes from byte 1,000 on, and not 1,000"):
        stream.read()


def test_an_empty_file_is_asked_for_nothing():
    store = Store(b"")
    with io.BufferedReader(ReadAhead(store.fetch, 0)) as stream:
        assert stream.read() == b""
    assert store.asked == []
