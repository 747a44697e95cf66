"""The variables that PyTorch's launcher, and everything above it, read in a stage of several processes."""

from __future__ import annotations

import zlib
from typing import Dict, Mapping, Optional

from jobrelay_runner.volume.paths import ENV_ADDRESS, ENV_INDEX, ENV_LEADER

_PORT = 29500


def torchrun_variables(
    run: str, stage: str, nodes: int, processes: Optional[int], given: Mapping[str, str]
) -> Dict[str, str]:
    """Return PET_*, which torchrun takes in place of options, and MASTER_*; none for a plain stage.

    The first Pod is where the others meet: it says so itself, as not every cluster's names can be resolved
    from inside.
    """
    if nodes == 1 and processes is None:
        return {}
    rank = given.get(ENV_INDEX, "0")
    on_one_machine = nodes == 1 or given.get(ENV_ADDRESS, "").startswith("127.")
    leader = "127.0.0.1" if on_one_machine else given.get(ENV_LEADER, "127.0.0.1")
    # several runs may be on one machine at once
    port = _PORT + zlib.crc32(f"{run}/{stage}".encode()) % 10_000 if on_one_machine else _PORT
    return {
        "PET_NNODES": str(nodes),
        "PET_NPROC_PER_NODE": str(processes or 1),
        "PET_NODE_RANK": rank,
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{leader}:{port}",
        "PET_RDZV_ID": f"{run}-{stage}",
        "PET_RDZV_CONF": f"is_host={'true' if rank == '0' else 'false'}",
        "MASTER_ADDR": leader,
        "MASTER_PORT": str(port + 1 if on_one_machine else port),
        "NODE_RANK": rank,
    }
