"""python -m jobrelay_runner, or runner.pyz: a command as a stage, the gate before it, or the volume.

stage NAME -- COMMAND …     run a command as a stage of the pipeline that $JOBRELAY_CONFIG describes
pack NAME                   run a stage of every run in the pack that lies beside $JOBRELAY_CONFIG
unpack                      put the code into the workspace
wait NAME                   wait until that stage of the run has succeeded
volume VERB …               what the launcher asks of the volume
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run one of the commands; return the exit code."""
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    if verb == "volume":
        from jobrelay_runner.volume import serve
        from jobrelay_runner.volume.paths import ENV_VOLUME

        return serve.main(rest, Path(os.environ.get(ENV_VOLUME) or "jobrelay-data"))
    if verb == "stage" and len(rest) > 2 and rest[1] == "--":
        from jobrelay_runner.command import running

        return running.run_stage(rest[0], rest[2:])
    if verb == "pack" and len(rest) == 1:
        from jobrelay_runner.command import pack

        return pack.run_pack(rest[0])
    if verb == "unpack" and not rest:
        from jobrelay_runner.command import running

        return running.unpack()
    if verb == "wait" and len(rest) == 1:
        from jobrelay_runner.command import running

        return running.wait_for(rest[0])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
