"""One API for all tests of this folder."""

from tests.support.api_fixtures import api, w, workspace

__all__ = ["api", "w", "workspace"]
