"""What the tests of pages share."""

from tests.reports.conftest import addresses

__all__ = ["addresses"]
