import pytest

from airflow_provider_lago.delivery.outcomes import Outcome
from airflow_provider_lago.delivery.tally import Tally, UnbalancedError


def counted():
    tally = Tally.of_kinds(["created", "updated"])
    tally.read = 16
    tally.count(Outcome.ACCEPTED, "created", 3)
    tally.count(Outcome.ACCEPTED, "updated", 4)
    tally.count(Outcome.DUPLICATE, records=5)
    tally.count(Outcome.SKIPPED, records=2)
    tally.reject("bad")
    tally.reject("bad")
    return tally


def test_each_outcome_is_counted_by_itself_and_all_add_up():
    tally = counted()
    assert tally.settled == 16
    tally.check()
    assert tally.as_dict() == {
        "read": 16,
        "accepted": 7,
        "created": 3,
        "updated": 4,
        "duplicate": 5,
        "rejected": 2,
        "skipped": 2,
        "requests": 0,
        "reasons": {"bad": 2},
    }


def test_counts_come_back_as_they_were():
    again = Tally.restored(["created", "updated"], counted().as_dict())
    assert again == counted()
    again.reject("bad")
    assert again.reasons == {"bad": 3}


@pytest.mark.parametrize("field", ["read", "accepted", "duplicate", "rejected", "skipped"])
def test_counts_that_do_not_add_up_are_found(field):
    tally = counted()
    setattr(tally, field, getattr(tally, field) + 1)
    with pytest.raises(UnbalancedError, match="do not add up"):
        tally.check()


def test_kinds_that_do_not_add_up_are_found():
    tally = counted()
    tally.kinds["created"] += 1
    with pytest.raises(UnbalancedError):
        tally.check()


def test_a_rejected_record_has_a_reason():
    with pytest.raises(ValueError, match="use reject"):
        Tally().count(Outcome.REJECTED)


def test_reasons_beyond_the_fiftieth_are_one():
    tally = Tally()
    for number in range(60):
        tally.reject(f"reason {number}")
    tally.reject("reason 3")
    assert len(tally.reasons) == 51
    assert tally.reasons["other reasons"] == 10
    assert tally.reasons["reason 3"] == 2
    assert tally.rejected == sum(tally.reasons.values()) == 61
