"""The sandbox behind a front that keeps what was asked of it, query included, and acts before it asks."""

import urllib.error
import urllib.parse
import urllib.request

from support.scripted import CUT, Reply, ScriptedServer


class Recorder:
    """
    ``with Recorder(sandbox) as front``: a server that passes everything on.

    :param before: Called with the number of each page of a list before it is asked for.
    """

    def __init__(self, sandbox, before=lambda page: None):
        self._sandbox = sandbox
        self._before = before
        self._server = ScriptedServer(self._pass_on)

    def __enter__(self):
        self._server.__enter__()
        return self

    def __exit__(self, *exc):
        self._server.__exit__(*exc)

    @property
    def url(self):
        return self._server.url

    @property
    def queries(self):
        return [dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(seen.path).query)) for seen in self._server.requests]

    @property
    def pages(self):
        """The pages that were asked for, in order."""
        return [int(query["page"]) for query in self.queries]

    def _pass_on(self, request):
        self._before(self.pages[-1])
        headers = {name: value for name, value in request.headers.items() if name in ("authorization", "accept")}
        passed = urllib.request.Request(self._sandbox.url + request.path, headers=headers)
        try:
            with urllib.request.urlopen(passed) as answer:
                return _reply(answer)
        except urllib.error.HTTPError as error:
            return _reply(error)
        except OSError:
            return CUT


def _reply(answer):
    return Reply(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
