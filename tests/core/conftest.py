"""What is tested here is pure: see tests/helpers/pure.py."""

from tests.helpers.pure import pure  # noqa: F401
