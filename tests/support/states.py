"""Airflow 3.3's task state store, for tests that call ``execute`` themselves."""

import json
import threading


class State:
    """Keeps JSON values, as ``context["task_state_store"]`` does."""

    def __init__(self):
        self.values = {}
        self.saved = []
        self.threads = set()
        self.error = None

    def get(self, key, default=None):
        self._called()
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key, value, *, retention=None):
        self._called()
        text = json.dumps(value)
        if json.loads(text) != value:
            raise TypeError("Airflow takes nothing but plain JSON values, and no tuples")
        self.values[key] = text
        self.saved.append(value)

    def delete(self, key):
        self._called()
        self.values.pop(key, None)

    def _called(self):
        self.threads.add(threading.current_thread())
        if self.error is not None:
            raise self.error
