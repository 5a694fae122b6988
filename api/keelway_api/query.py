"""The query: filters that lists share, and the refusal of parameters that a route does not declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import StringConstraints

from keelway.contracts.base import MODEL_NAME
from keelway_api.errors import InvalidRequest

NameFilter = Annotated[str | None, Query(pattern=MODEL_NAME, description="only the one of exactly this name")]
MAX_PAIR = 256 + 1 + 4096  # the longest tag there can be
Pair = Annotated[str, StringConstraints(max_length=MAX_PAIR)]
Pairs = Annotated[list[Pair], Query(max_length=20, description="'key' that is there, or 'key=value'; all must hold")]
NAMED = 20
NAME_SHOWN = 100


async def refuse_unknown(request: Request) -> None:
    """A dependency of the whole app: a mistyped filter must not list everything.

    Raises InvalidRequest naming what is unknown and what the route knows.
    """
    if not request.query_params:
        return
    known = request.app.state.query_parameters[request.scope["endpoint"]]
    if unknown := sorted(request.query_params.keys() - known):
        offer = f"known are {', '.join(sorted(known))}" if known else "this path takes none"
        first, *more = [(f"query.{name[:NAME_SHOWN]}", f"not a query parameter; {offer}") for name in unknown[:NAMED]]
        raise InvalidRequest(*first, *more)


def learn_parameters(app: FastAPI) -> None:
    """Note what each route declares; to be called once all routes are there."""
    app.state.query_parameters = {
        route.endpoint: frozenset(_declared(route.dependant)) for route in iter_route_contexts(app.routes)
    }


def _declared(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _declared(dependency)
