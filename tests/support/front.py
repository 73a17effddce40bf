"""The sandbox behind a front that keeps what was asked of it: query and body included."""

import urllib.error
import urllib.request

from support.scripted import CUT, Reply, ScriptedServer

_PASSED_ON = ("authorization", "accept", "content-type")


class Front:
    """
    ``with Front(sandbox) as front``: a server that passes everything on.

    :param before: Called with each request before it is passed on.
    """

    def __init__(self, sandbox, before=lambda request: None):
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
    def requests(self):
        return self._server.requests

    def _pass_on(self, request):
        self._before(request)
        headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
        passed = urllib.request.Request(
            self._sandbox.url + request.path, method=request.method, data=request.body or None, headers=headers
        )
        try:
            with urllib.request.urlopen(passed) as answer:
                return _reply(answer)
        except urllib.error.HTTPError as error:
            return _reply(error)
        except OSError:
            return CUT


def _reply(answer):
    return Reply(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
