"""Nodes: worker hosts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, func
from sqlalchemy.orm import Mapped, mapped_column

from keelway_api.tables import Base


class NodeTable(Base):
    """A worker host, what it has, and how far it has acted on what it should run."""

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    pythons: Mapped[list[Any]]
    targets: Mapped[list[Any]]
    capacity: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, Any]]
    keelway_version: Mapped[str]
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    generation: Mapped[int] = mapped_column(default=1)
    acted_generation: Mapped[int] = mapped_column(default=0)
