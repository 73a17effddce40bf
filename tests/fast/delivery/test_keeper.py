"""What the keeper saves, when, and who waits for it."""

import asyncio
import logging

import pytest

from airflow_provider_lago.delivery.checkpoint import read_checkpoint
from airflow_provider_lago.delivery.keeper import Keeper, Rhythm
from airflow_provider_lago.delivery.ledger import Ledger
from airflow_provider_lago.delivery.outcomes import Outcome
from airflow_provider_lago.delivery.report import EvidenceError, NoReport
from airflow_provider_lago.delivery.tally import Tally
from airflow_provider_lago.sources.rows import Start


class Source:
    """Knows a place every thousand records."""

    def start_after(self, position):
        return Start(position // 1_000 * 1_000, 0, 0, position // 1_000 * 1_000)


class Report(NoReport):
    def __init__(self, held=0, fails=0):
        self.held = held
        self.fails = fails
        self.kept = 0

    def seal(self):
        return {"rejected.jsonl": 7}

    def keep(self):
        self.kept += 1
        if self.fails:
            self.fails -= 1
            raise OSError(28, "no space left")
        self.held = 0


class Checkpoints:
    def __init__(self, fails=0):
        self.saved = []
        self.fails = fails

    def save(self, stored):
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the store is down")
        self.saved.append(read_checkpoint(stored, "mark", 2))


class Scene:
    """A keeper with all that it looks after, in which nothing is saved by the clock."""

    def __init__(self, report=None, fails=0, **rhythm):
        self.ledger = Ledger(Tally(), NoReport(), logging.getLogger("tests"))
        self.checkpoints = Checkpoints(fails)
        self.report = report or Report()
        self.keeper = Keeper(
            self.ledger,
            Source(),
            self.report,
            logging.getLogger("tests"),
            checkpoints=self.checkpoints,
            fingerprint="mark",
            life=2,
            found=None,
            rhythm=Rhythm(**{"seconds": 3_600.0, **rhythm}),
        )

    @property
    def saved(self):
        return self.checkpoints.saved

    def read(self, count):
        self.ledger.tally.read += count

    def settle(self, first, last):
        self.ledger.tally.count(Outcome.ACCEPTED, records=last - first + 1)
        self.ledger.progress.add(first, last)

    async def waits(self):
        """Tell whether what was read has to wait although the keeper has done all that it was asked for."""
        try:
            await asyncio.wait_for(self.keeper.room(), 1.0)
        except TimeoutError:
            return True
        return False

    def run(self, story, save=False):
        async def play():
            self.keeper.begin()
            try:
                return await story()
            finally:
                self.keeper.end(10.0, save=save)

        return asyncio.run(play())


def test_nothing_is_sent_before_the_first_checkpoint_says_how_far_it_may_have_been():
    scene = Scene()
    scene.read(100)
    assert scene.run(scene.waits) is False
    (saved,) = scene.saved
    assert (saved.settled, saved.sent_to, saved.counts["read"]) == ([0], 100 + 3_500, 0)


def test_records_are_sent_without_a_checkpoint_until_so_many_are_ahead_of_it():
    scene = Scene()

    async def story():
        for _ in range(24):
            scene.read(100)
            await scene.keeper.room()
        early = len(scene.saved)
        for _ in range(20):
            scene.read(100)
            await scene.keeper.room()
        return early

    assert scene.run(story) == 1, "the first one covers 2,500 records"
    assert 2 <= len(scene.saved) <= 12, "beyond 3,500 records ahead of it the next one is waited for"
    read_at = [saved.sent_to - 3_500 for saved in scene.saved]
    assert read_at[0] == 100
    assert read_at[1] >= 2_600


def test_a_checkpoint_tells_what_is_settled_and_counts_that_alone():
    scene = Scene()
    scene.read(5_000)
    scene.settle(1, 1_500)
    scene.settle(1_601, 1_700)
    scene.run(scene.waits)
    (saved,) = scene.saved
    assert saved.settled == [1_500, 100, 100]
    assert saved.start == Start(1_000, 0, 0, 1_000)
    assert saved.sent_to == 8_500
    assert (saved.counts["read"], saved.counts["accepted"]) == (1_600, 1_600)
    assert saved.evidence == {"rejected.jsonl": 7}


def test_the_last_checkpoint_says_that_no_more_is_sent():
    scene = Scene()

    async def story():
        scene.read(100)
        await scene.keeper.room()
        scene.settle(1, 100)

    scene.run(story, save=True)
    assert [saved.sent_to for saved in scene.saved] == [3_600, 100]
    assert scene.saved[-1].settled == [100]


def test_without_a_reason_none_is_saved_at_the_end():
    scene = Scene()

    async def story():
        scene.read(100)
        await scene.keeper.room()
        scene.settle(1, 100)

    scene.run(story, save=False)
    assert len(scene.saved) == 1


def test_what_is_saved_already_is_not_saved_again():
    scene = Scene()

    async def story():
        scene.read(100)
        await scene.keeper.room()

    scene.run(story, save=True)
    assert len(scene.saved) == 1


def test_a_place_that_fails_is_told_once_and_nobody_waits_for_it(caplog):
    scene = Scene(fails=10_000)

    async def story():
        found = []
        for _ in range(5):
            scene.read(5_000)
            scene.settle(scene.ledger.progress.upto + 1, scene.ledger.tally.read)
            found.append(await scene.waits())
        return found

    assert scene.run(story) == [False] * 5
    assert scene.saved == []
    assert [record.message for record in caplog.records] == [
        "The checkpoint cannot be saved (RuntimeError: the store is down). The delivery goes on; a retry would go on "
        "from the last one that was saved"
    ]


def test_a_place_that_works_again_is_used_again():
    scene = Scene(fails=1, seconds=0.01)

    async def story():
        scene.read(100)
        await scene.keeper.room()
        for _ in range(500):
            if scene.saved:
                return
            await asyncio.sleep(0.01)

    scene.run(story)
    assert scene.saved


def test_evidence_that_cannot_be_kept_ends_the_delivery_after_some_tries():
    scene = Scene(Report(fails=10_000), seconds=0.01)

    async def story():
        scene.read(100)
        await scene.keeper.room()

    with pytest.raises(EvidenceError, match=r"the report cannot be kept: .*no space left"):
        scene.run(story)
    assert scene.report.kept == 3
    assert scene.saved == [], "no checkpoint vouches for what is not kept"


@pytest.mark.parametrize(("ranges", "is_saved"), [(4_000, True), (4_001, False)])
def test_what_is_settled_in_too_many_pieces_is_not_saved_and_nobody_waits_for_it(ranges, is_saved):
    scene = Scene()
    scene.read(3 * ranges)
    for number in range(ranges):
        scene.settle(3 * number + 2, 3 * number + 2)
    assert scene.run(scene.waits) is False
    assert bool(scene.saved) is is_saved


def test_counts_that_the_evidence_may_lack_are_not_saved():
    scene = Scene()
    scene.read(100)
    scene.ledger.is_torn = True
    assert scene.run(scene.waits) is False
    assert scene.saved == []


def test_evidence_that_waits_in_memory_is_kept_before_there_is_too_much_of_it():
    scene = Scene(Report(held=16 << 20))

    async def story():
        scene.read(100)
        await scene.keeper.room()
        scene.report.held = 33 << 20
        scene.settle(1, 100)
        await scene.keeper.room()
        return scene.report.held

    assert scene.run(story) == 0
    assert scene.report.kept == 2
