"""Several requests scored at once: their rows put together, run() called once, its rows taken apart again.

Only rows are put together: those of run()'s first parameter, when all others are the same. What cannot be put together
exactly (other types, other columns), and every request of a batch that run() fails on, is scored by itself, so that an
error stays with the request that caused it. run() must give one result for each row; where it does not, batching ends.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Hashable, Sequence

import orjson

from keelway_runtime import log
from keelway_runtime.arguments import Call, DeclaredArguments
from keelway_runtime.marking import batch_of
from keelway_runtime.schema import HEADERS_PARAMETER
from keelway_runtime.scoring import Answer, Scorer, scored
from keelway_runtime.script import ScriptError, parameters
from keelway_runtime.settings import Settings


class Unsplittable(Exception):  # noqa: N818 - no error: the requests are scored one by one
    """A result that has not one part for each row."""


class Batcher:
    """Scores requests together where that gives what each would have got alone."""

    def __init__(self, scorer: Scorer, *, max_size: int, max_delay_ms: float) -> None:
        names = [parameter.name for parameter in parameters(scorer.run)]
        is_plain = not scorer.is_async and HEADERS_PARAMETER not in names
        if not isinstance(scorer.arguments, DeclaredArguments) or not is_plain or not scorer.is_by_rows:
            raise ScriptError(
                "run() cannot be batched: its input must be declared, by @input_schema or type hints, and it must be a "
                f"plain function without {HEADERS_PARAMETER}; a model without a script must take rows"
            )
        self.max_size, self.max_delay_s = max_size, max_delay_ms / 1000
        self._scorer, self._rows_name = scorer, names[0]

    @classmethod
    def of(cls, scorer: Scorer, settings: Settings) -> Batcher | None:
        """The batcher that the deployment or the script asks for. Raises ScriptError when run() cannot be batched."""
        size, delay_ms = batch_of(scorer.run)
        size, delay_ms = settings.batch_size or size, settings.batch_delay_ms or delay_ms
        return cls(scorer, max_size=size, max_delay_ms=delay_ms) if size > 1 else None

    def score(self, calls: Sequence[Call]) -> list[Answer]:
        """An answer for each call, in their order."""
        answers: list[Answer | None] = [None] * len(calls)
        groups: dict[Hashable, list[tuple[int, dict[str, Any]]]] = {}
        for place, call in enumerate(calls):
            bound = self._scorer.bind(call)
            if isinstance(bound, Answer):
                answers[place] = bound
            else:
                groups.setdefault(self._kind(bound, place), []).append((place, bound))
        for group in groups.values():
            found = self._score_group([arguments for _, arguments in group])
            for (place, _), answer in zip(group, found):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _score_group(self, group: list[dict[str, Any]]) -> list[Answer]:
        if len(group) > 1 and self.max_size > 1:
            counts = [len(arguments[self._rows_name]) for arguments in group]
            together = {**group[0], self._rows_name: _joined([arguments[self._rows_name] for arguments in group])}
            started = time.perf_counter()
            try:
                parts = list(_parts(self._scorer.run(**together), counts))
                return [scored(part, started) for part in parts]
            except Unsplittable:
                self._give_up()
            except BaseException:  # noqa: BLE001, S110 - whose fault it is shows when each is scored alone
                pass
        return [self._score_alone(arguments) for arguments in group]

    def _score_alone(self, arguments: dict[str, Any]) -> Answer:
        def run(**given: Any) -> Any:
            result = self._scorer.run(**given)
            rows = given[self._rows_name]
            # Found out on the way: a result whose length only happens to be right would be taken apart wrongly.
            if self.max_size > 1 and _is_rows(rows) and not _has_rows(result, len(rows)):
                self._give_up()
            return result

        return self._scorer.score_bound(arguments, run)

    def _give_up(self) -> None:
        log.event("batching ended", reason="run() does not give one result for each row of its first parameter")
        self.max_size, self.max_delay_s = 1, 0.0

    def _kind(self, arguments: dict[str, Any], place: int) -> Hashable:
        """What requests must have in common to be put together; the place itself for one that must be alone."""
        rows = arguments.get(self._rows_name)
        kind = _kind_of_rows(rows) if _is_rows(rows) else None
        if kind is None:
            return place
        others = [(name, _sameness(value)) for name, value in arguments.items() if name != self._rows_name]
        return (kind, *others)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) or _is_frame(value) or (_is_array(value) and value.ndim > 0)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series))


def _kind_of_rows(rows: Any) -> Hashable | None:
    if len(rows) == 0:
        return None
    if isinstance(rows, list):
        return list
    if _is_array(rows):
        return (rows.dtype.str, rows.shape[1:]) if rows.dtype.names is None else None
    if rows.ndim == 1:
        return (str(rows.dtype), rows.name)
    return (tuple(rows.columns), tuple(map(str, rows.dtypes)))


def _sameness(value: Any) -> Hashable:
    """Equal only for what no run() could tell apart."""
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return (type(value), repr(value))
    if isinstance(value, (list, dict)):
        try:
            return (type(value), orjson.dumps(value))
        except TypeError:
            return (type(value), id(value))
    if _is_array(value) and value.dtype.kind != "O":
        return (value.dtype.str, value.shape, value.tobytes())
    return (type(value), id(value))


def _joined(rows: list[Any]) -> Any:
    if isinstance(rows[0], list):
        return [row for some in rows for row in some]
    if _is_array(rows[0]):
        return sys.modules["numpy"].concatenate(rows)
    return sys.modules["pandas"].concat(rows, ignore_index=True)


def _has_rows(result: Any, count: int) -> bool:
    if isinstance(result, dict):
        return bool(result) and all(_has_rows(value, count) for value in result.values())
    if isinstance(result, (list, tuple)) and result and _is_array(result[0]):
        return False  # one array for each output, as scikit-learn has it, and not for each row
    return (isinstance(result, tuple) or _is_rows(result)) and len(result) == count


def _parts(result: Any, counts: list[int]) -> list[Any]:
    """The result's rows, so many for each request. Raises Unsplittable."""
    if not _has_rows(result, sum(counts)):
        raise Unsplittable
    if isinstance(result, dict):
        columns = [[(name, part) for part in _parts(value, counts)] for name, value in result.items()]
        return [dict(parts) for parts in zip(*columns)]
    rows, parts, start = result.iloc if _is_frame(result) else result, [], 0
    for count in counts:
        parts.append(rows[start : start + count])
        start += count
    return parts
