"""What an emulated job returns: device noise, reads and times."""

__all__: list[str] = []
