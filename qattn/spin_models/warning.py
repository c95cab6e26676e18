"""What is said where a fixed point was not reached."""


class NotConvergedWarning(UserWarning):
    """An iteration ended before it converged; what it gave is what it had."""
