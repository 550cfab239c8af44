"""Seeds of what is drawn: prompts, needles, samples."""

import hashlib
import json
from typing import Any


def seeded(*parts: Any) -> int:
    """Return a seed that depends on these JSON-able parts alone, the same in every process."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big")
