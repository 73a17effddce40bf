import pytest

from airflow_provider_lago.delivery.plan import Sample
from airflow_provider_lago.delivery.preview import as_dict, preview, shown_header


class Units:
    """A plan of numbers, of which each makes so many requests."""

    kinds = ()
    id_field = "id"

    def __init__(self, *requests):
        self.requests = requests
        self.taken = 0

    def units(self, ledger):
        for number in self.requests:
            self.taken += 1
            ledger.tally.read += 1
            yield number

    def samples(self, unit):
        return [Sample("POST", f"https://lago/{unit}/{at}", "{}", 1) for at in range(unit)]


@pytest.mark.parametrize(("wanted", "shown", "taken"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (9, 5, 3)])
def test_no_more_is_read_than_the_requests_need_and_no_more_shown_than_were_asked_for(wanted, shown, taken):
    plan = Units(2, 2, 1)
    samples, tally = preview(plan, wanted, None)
    assert len(samples) == shown
    assert plan.taken == tally.read == taken
    assert samples[0].url == "https://lago/2/0"


def test_a_request_is_shown_with_all_that_it_holds():
    assert as_dict(Sample("POST", "https://lago/x", '{"a":1}', 3)) == {
        "method": "POST",
        "url": "https://lago/x",
        "records": 3,
        "body": '{"a":1}',
    }


def test_a_header_is_shown_unless_its_name_says_that_it_is_a_secret():
    headers = (("X-Trace", "7"), ("X-Api-Key", "k"), ("Authorization", "k"))
    shown = as_dict(Sample("POST", "u", "b", 1, headers))["headers"]
    assert shown == {"X-Trace": "7", "X-Api-Key": "***", "Authorization": "***"}
    assert shown_header("X-Secret-Token", "k") == "***"
