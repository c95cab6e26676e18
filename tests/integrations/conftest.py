"""Models of transformers are made from configurations; nothing is fetched."""

import os

for variable in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
    os.environ[variable] = "1"
