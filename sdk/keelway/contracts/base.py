"""What all contracts share: strict requests, tolerant answers, pages, and the rules for names."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MODEL_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}$"
SERVICE_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
WORKSPACE_NAME = r"^[a-z0-9][a-z0-9\-._]{0,254}$"
SHA256 = r"^[0-9a-f]{64}$"

ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME)]
WorkspaceName = Annotated[str, StringConstraints(pattern=WORKSPACE_NAME)]
ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_NAME, min_length=3, max_length=32)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TagValue = Annotated[str, StringConstraints(max_length=4096)]
MAX_TAGS = 1000
MAX_TAGS_CHARACTERS = 64 * 1024
UNKNOWN_NAMED = 20


def _not_too_many(tags: Any) -> Any:
    if isinstance(tags, dict) and len(tags) > MAX_TAGS:
        raise ValueError(f"at most {MAX_TAGS} are taken, these are {len(tags)}")
    return tags


def _not_too_long(tags: dict[str, str]) -> dict[str, str]:
    size = sum(len(key) + len(value) for key, value in tags.items())
    if size > MAX_TAGS_CHARACTERS:
        raise ValueError(f"at most {MAX_TAGS_CHARACTERS} characters together, these are {size}")
    return tags


Tags = Annotated[dict[TagKey, TagValue], BeforeValidator(_not_too_many), AfterValidator(_not_too_long)]
Description = Annotated[str, StringConstraints(max_length=16384)]


class Request(BaseModel):
    """A body that somebody sends us: an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)

    @model_validator(mode="before")
    @classmethod
    def _not_too_many_fields(cls, body: Any) -> Any:
        # Each unknown field becomes an error of its own: a million of them would cost a gigabyte.
        if isinstance(body, dict) and len(body) > len(cls.model_fields) + UNKNOWN_NAMED:
            raise ValueError(f"{len(body)} fields; only {', '.join(cls.model_fields)} are known")
        return body


class Answer(BaseModel):
    """A body that we send: clients ignore fields they do not know yet."""

    model_config = ConfigDict(extra="ignore")


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """One page of a list; `next_page_token` is absent on the last."""

    items: list[Item]
    next_page_token: str | None = None


class Problem(Answer):
    """RFC 9457 problem document. Members beyond these are the problem's own fields."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A path this service answers with an explanation; its last segment is the id.")
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
