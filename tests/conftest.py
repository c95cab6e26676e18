"""Fixtures for all tests."""

import jaxtyping
import pytest


@pytest.fixture
def as_users_call():
    """Without the shape checks that only tests have: what a user's wrong call meets."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
