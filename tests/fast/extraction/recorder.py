"""What an extraction asked of the sandbox."""

import urllib.parse

from support.front import Front


class Recorder(Front):
    """
    Keeps the pages of lists that were asked for.

    :param before: Called with the number of each page of a list before it is asked for.
    """

    def __init__(self, sandbox, before=lambda page: None):
        super().__init__(sandbox, lambda request: before(self.pages[-1]))

    @property
    def queries(self):
        return [dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(seen.path).query)) for seen in self.requests]

    @property
    def pages(self):
        """The pages that were asked for, in order."""
        return [int(query["page"]) for query in self.queries]
