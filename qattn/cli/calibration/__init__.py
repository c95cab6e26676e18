"""What ``qattn calibrate`` does with each kind of annealer, imported when it is called for."""

__all__: list[str] = []
