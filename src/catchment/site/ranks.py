"""Which of a work's workers a process is: the variables that torch.distributed reads."""

from __future__ import annotations

import socket

RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORKER_INDEX",
)


def rank_variables(worker_num: int) -> tuple[dict[str, str], ...]:
    """What each worker has in its environment: the names that torch.distributed reads, for more than one."""
    if worker_num == 1:
        return ({},)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "WORLD_SIZE": str(worker_num),
        "LOCAL_WORLD_SIZE": str(worker_num),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return tuple(
        {**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORKER_INDEX": str(rank)}
        for rank in range(worker_num)
    )
