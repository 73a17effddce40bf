"""What a scripted server needs to answer like Lago's Postgres store."""

import json
from collections import Counter

from support.scripted import echo, refused

DUPLICATE = {"transaction_id": ["value_already_exist"]}
INVALID = {"timestamp": ["invalid_format"]}


def ids(request):
    return [event["transaction_id"] for event in request.events]


class Store:
    """Keeps events as Lago's Postgres store does: a batch whole or not at all, each id once."""

    def __init__(self):
        self.held = Counter()

    def take(self, request):
        known = {str(n): DUPLICATE for n, event in enumerate(ids(request)) if event in self.held}
        if known:
            return refused(known if "events" in json.loads(request.body) else DUPLICATE)
        self.held.update(ids(request))
        return echo(request)


def first_broken(answer, broken):
    """Act on every request, and break the first answer to each distinct body."""
    seen = set()

    def reply(request):
        given = answer(request)
        first = request.body not in seen
        seen.add(request.body)
        return broken if first else given

    return reply
