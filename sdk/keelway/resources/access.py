"""Workspaces and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keelway.contracts.access import (
    Grant,
    RefuseFindings,
    Token,
    TokenCreate,
    TokenCreated,
    Workspace,
    WorkspaceCreate,
    WorkspaceUpdate,
)
from keelway.resources.base import Resource, checked, segment


class Workspaces(Resource):
    """`/v1/workspaces`."""

    def create(self, name: str, *, description: str = "") -> Workspace:
        """A new workspace."""
        return self._send(
            Workspace, "POST", "/v1/workspaces", checked(WorkspaceCreate, name=name, description=description)
        )

    def update(
        self, name: str, *, description: str | None = None, refuse_findings: RefuseFindings | str | None = None
    ) -> Workspace:
        """Describe a workspace otherwise, or change from which severity on findings keep versions from deployment."""
        policies = {"refuse_findings": refuse_findings} if refuse_findings else None
        body = checked(WorkspaceUpdate, description=description, policies=policies)
        return self._send(Workspace, "PATCH", f"/v1/workspaces/{segment(name)}", body)

    def list(self) -> Iterator[Workspace]:
        """The workspaces you may see."""
        return self._pages(Workspace, "/v1/workspaces")

    def get(self, name: str) -> Workspace:
        """One workspace."""
        return self._get(Workspace, f"/v1/workspaces/{segment(name)}")


class Tokens(Resource):
    """`/v1/tokens`."""

    def create(self, name: str, grants: Sequence[Grant], *, expires_in_s: int | None = None) -> TokenCreated:
        """A new token; the answer is the only place its secret is ever shown."""
        body = checked(TokenCreate, name=name, grants=list(grants), expires_in_s=expires_in_s)
        return self._send(TokenCreated, "POST", "/v1/tokens", body)

    def list(self) -> Iterator[Token]:
        """All tokens, without their secrets."""
        return self._pages(Token, "/v1/tokens")

    def revoke(self, id: str) -> None:
        """From now on the token opens nothing."""
        self._client.request("DELETE", f"/v1/tokens/{segment(id)}")
