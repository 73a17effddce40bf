"""Files of lines in an object store: parts that are joined, and what a killed or stopped try leaves of them."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stores import memory_folder

from airflow_provider_lago.storage import folders
from airflow_provider_lago.storage.lines import CannotContinueError
from airflow_provider_lago.storage.parts import remains_of


@pytest.fixture
def store():
    return memory_folder()


@pytest.fixture
def folder(store):
    return store[0]


@pytest.fixture
def fs(store):
    return store[1]


def grown(folder, *pieces, **arguments):
    """Write each piece as a part, and leave the file as a killed task would."""
    lines = folder.lines("a.jsonl", **arguments)
    for piece in pieces:
        lines.write(piece)
        lines.seal()
        lines.keep()
    return lines


def whole(folder, name="a.jsonl"):
    return folder.read(name)


class TestAFile:
    def test_it_is_the_lines_in_order_and_its_parts_are_gone(self, folder):
        lines = grown(folder, b"1\n", b"2\n3\n")
        lines.write(b"4\n")
        lines.close()
        assert whole(folder) == b"1\n2\n3\n4\n"
        assert folder.names() == ["a.jsonl"]

    def test_one_without_lines_is_there_and_empty(self, folder):
        folder.lines("a.jsonl").close()
        assert whole(folder) == b""

    def test_writing_and_sealing_ask_nothing_of_the_store(self, folder, fs):
        lines = folder.lines("a.jsonl")
        fs.before = lambda what, path: pytest.fail(f"{what} {path}")
        lines.write(b"1\n")
        assert lines.seal() == 2
        assert lines.held == 2

    def test_what_is_written_while_a_part_is_on_its_way_is_in_the_next(self, folder, fs):
        lines = folder.lines("a.jsonl")
        lines.write(b"1\n")
        lines.seal()
        fs.before = lambda what, path: lines.write(b"2\n") if what == "write" and not lines.seal() > 2 else None
        lines.keep()
        fs.before = lambda what, path: None
        lines.close()
        assert whole(folder) == b"1\n2\n"

    def test_lines_of_one_thread_that_another_seals_are_all_there(self, folder):
        lines = folder.lines("a.jsonl")
        ended = threading.Event()

        def keep():
            while not ended.is_set():
                lines.seal()
                lines.keep()

        keeper = threading.Thread(target=keep)
        keeper.start()
        for n in range(20_000):
            lines.write(b"%d\n" % n)
        ended.set()
        keeper.join()
        lines.close()
        assert whole(folder) == b"".join(b"%d\n" % n for n in range(20_000))

    def test_a_part_that_the_store_refuses_is_written_the_next_time(self, folder, fs):
        lines = folder.lines("a.jsonl")
        lines.write(b"1\n")
        lines.seal()
        fs.before = refusing("write", times=1)
        with pytest.raises(OSError, match="RuntimeError: the store is away"):
            lines.keep()
        assert lines.held == 2
        lines.keep()
        assert lines.held == 0
        lines.close()
        assert whole(folder) == b"1\n"

    @pytest.mark.parametrize("what", ["read", "write", "remove"])
    def test_closing_may_be_tried_again_where_it_failed(self, folder, fs, what):
        lines = grown(folder, b"1\n", b"2\n")
        fs.before = refusing(what, times=1)
        with pytest.raises(OSError, match="the store is away"):
            lines.close()
        lines.close()
        assert whole(folder) == b"1\n2\n"
        assert folder.names() == ["a.jsonl"]

    def test_a_closed_one_takes_no_lines_that_nobody_would_write(self, folder):
        lines = grown(folder, b"1\n")
        lines.close()
        with pytest.raises(ValueError, match=r"a\.jsonl is closed"):
            lines.write(b"2\n")

    def test_another_tasks_file_is_not_written_over(self, folder):
        folder.write("a.jsonl", [b"theirs\n"])
        with pytest.raises(FileExistsError):
            folder.lines("a.jsonl")
        assert whole(folder) == b"theirs\n"

    def test_one_that_is_larger_than_a_chunk_is_the_same(self, folder, fs, monkeypatch):
        monkeypatch.setattr(folders, "_CHUNK", 4)
        lines = grown(folder, b"1\n", b"23456789\n", b"0\n", b"1234567890123\n")
        lines.close()
        assert whole(folder) == b"1\n23456789\n0\n1234567890123\n"
        assert folder.names() == ["a.jsonl"]


class TestGoingOn:
    def test_after_a_kill_what_lies_behind_the_mark_is_dropped(self, folder):
        grown(folder, b"1\n", b"2\n", b"3\n")
        lines = folder.lines("a.jsonl", mark=4)
        lines.write(b"x\n")
        lines.close()
        assert whole(folder) == b"1\n2\nx\n"
        assert folder.names() == ["a.jsonl"]

    def test_after_a_stop_that_joined_the_parts(self, folder):
        lines = grown(folder, b"1\n", b"2\n")
        mark = lines.seal()
        lines.close()
        lines = folder.lines("a.jsonl", mark=mark)
        lines.write(b"3\n")
        lines.close()
        assert whole(folder) == b"1\n2\n3\n"

    def test_after_a_stop_and_a_kill(self, folder):
        grown(folder, b"1\n").close()
        lines = grown(folder, b"2\n", b"3\n", mark=2)
        assert lines.seal() == 6
        lines = folder.lines("a.jsonl", mark=4)
        lines.close()
        assert whole(folder) == b"1\n2\n"

    def test_a_joined_file_beyond_the_mark_is_cut_before_anything_else(self, folder):
        grown(folder, b"1\n", b"2\n").close()
        grown(folder, b"x\n", mark=2)  # and killed
        assert whole(folder) == b"1\n"
        folder.lines("a.jsonl", mark=4).close()
        assert whole(folder) == b"1\nx\n"

    def test_after_a_kill_between_joining_and_removing_the_parts(self, folder, fs):
        lines = grown(folder, b"1\n", b"2\n")
        fs.before = refusing("remove", times=1)
        with pytest.raises(OSError, match="the store is away"):
            lines.close()
        assert folder.names() != ["a.jsonl"]
        folder.lines("a.jsonl", mark=2).close()
        assert whole(folder) == b"1\n"
        assert folder.names() == ["a.jsonl"]

    def test_a_missing_part_cannot_be_gone_on_with(self, folder):
        grown(folder, b"1\n", b"2\n", b"3\n")
        folder.remove(folder.names()[1])
        with pytest.raises(CannotContinueError, match="shorter than they were"):
            folder.lines("a.jsonl", mark=6)

    def test_appending_keeps_all_that_was_kept(self, folder):
        grown(folder, b"1\n").close()
        grown(folder, b"2\n", append=True)
        grown(folder, b"3\n", append=True)
        folder.lines("a.jsonl", append=True).close()
        assert whole(folder) == b"1\n2\n3\n"

    @given(
        st.lists(
            st.tuples(st.lists(st.binary(min_size=1, max_size=5), max_size=4), st.booleans(), st.integers(0, 4)),
            max_size=5,
        )
    )
    def test_whatever_is_killed_or_stopped_the_file_is_what_the_marks_cover(self, tries):
        folder, _ = memory_folder()
        covered, mark = b"", None
        for pieces, is_killed, checkpoint in tries:
            lines = folder.lines("a.jsonl", mark=mark)
            written, mark = covered, lines.seal()
            for n, piece in enumerate(pieces):
                lines.write(piece)
                end = lines.seal()
                lines.keep()
                written += piece
                if n < checkpoint:
                    covered, mark = written, end
            if not is_killed:
                lines.close()
        folder.lines("a.jsonl", mark=mark).close()
        assert whole(folder) == covered
        assert folder.names() == ["a.jsonl"]


class TestKeepingEarlierOnes:
    def test_files_get_a_number_that_they_share(self, folder):
        for text in (b"1", b"2", b"3"):
            folder.keep_earlier("a.jsonl", "b.json")
            folder.write("a.jsonl", [text])
            if text != b"2":
                folder.write("b.json", [text])
        assert {name: folder.read(name) for name in folder.names()} == {
            "a.jsonl": b"3", "b.json": b"3", "a.1.jsonl": b"1", "b.1.json": b"1", "a.2.jsonl": b"2",
        }  # fmt: skip

    def test_parts_of_a_killed_task_become_a_file(self, folder):
        grown(folder, b"1\n", b"2\n")
        folder.keep_earlier("a.jsonl")
        assert folder.names() == ["a.1.jsonl"]
        assert whole(folder, "a.1.jsonl") == b"1\n2\n"

    def test_a_file_and_the_parts_behind_it_are_kept_together(self, folder):
        grown(folder, b"1\n").close()
        grown(folder, b"2\n", mark=2)
        folder.keep_earlier("a.jsonl")
        assert folder.names() == ["a.1.jsonl"]
        assert whole(folder, "a.1.jsonl") == b"1\n2\n"

    def test_parts_that_are_in_the_file_already_are_not_kept_twice(self, folder, fs):
        lines = grown(folder, b"1\n", b"2\n")
        fs.before = refusing("remove", times=1)
        with pytest.raises(OSError, match="the store is away"):
            lines.close()
        folder.keep_earlier("a.jsonl")
        assert folder.names() == ["a.1.jsonl"]
        assert whole(folder, "a.1.jsonl") == b"1\n2\n"

    @pytest.mark.parametrize("kept", range(1, 6))
    def test_an_end_in_the_middle_of_it_loses_no_line(self, folder, fs, kept):
        grown(folder, b"1\n").close()
        grown(folder, b"2\n", b"3\n", mark=2)
        fs.before = refusing("any", times=1, after=kept)
        with pytest.raises(OSError, match="the store is away"):
            folder.keep_earlier("a.jsonl")
        folder.keep_earlier("a.jsonl")
        assert not remains_of("a.jsonl", folder.sizes()).parts
        assert b"1\n2\n3\n" in [folder.read(name) for name in folder.names()]


def refusing(what, *, times, after=0):
    """Return what makes a store fail some times, after it has worked some times."""
    calls = iter(range(1_000_000))

    def before(now, path):
        if what in ("any", now) and after <= next(calls) < after + times:
            raise RuntimeError("the store is away")

    return before
