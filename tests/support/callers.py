"""People who call a service all the while."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter

CALLERS = 4


class Callers:
    """Each calls without a break, on one connection after another. `answers` counts what came: answers, or failures."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._done = threading.Event()
        self.answers: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._done.is_set():
            request = urllib.request.Request(self._uri, b"{}", {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    self.answers[str(json.load(answer))] += 1
            except urllib.error.HTTPError as error:
                self.answers[f"{error.code} {error.read().decode()[:200]}"] += 1
            except OSError as error:
                self.answers[repr(error)] += 1
