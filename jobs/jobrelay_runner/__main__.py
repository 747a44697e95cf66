"""`python -m jobrelay_runner volume …`: the launcher's requests to the volume."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobrelay_runner.volume import serve
from jobrelay_runner.volume.paths import ENV_VOLUME

if __name__ == "__main__":
    if sys.argv[1:2] != ["volume"]:
        sys.exit("usage: python -m jobrelay_runner volume VERB …")
    sys.exit(serve.main(sys.argv[2:], Path(os.environ.get(ENV_VOLUME) or "jobrelay-data")))
