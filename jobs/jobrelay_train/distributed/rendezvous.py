"""How the Pods of one stage find each other, and learn that one of them is lost.

The Pod with index 0 listens. The others find it by a small file on the volume, or by its name in the
cluster's DNS, which the run's headless Service provides. They use whichever works first; neither needs the
other. Each Pod keeps its connection until the stage ends. Once all have joined, index 0 sends `welcome`, and
serves the stage's own store at the same address. When a Pod disconnects without `bye`, index 0 sends all
others that index.

A TCPStore alone, which is what torch elastic has for this, cannot replace these connections. It counts the
Pods that have joined, but does not name a missing one, or notice that one is gone. And a client waits forever
for a server that says nothing, such as a stranger at a stale address.

Stale addresses are never used: no process answers for this run at a file or name of an earlier attempt. Only
a living process with index 0 sends `welcome`, and its token is unique to this attempt.

    --> {"run": "a", "stage": "train", "config": "9f86…", "index": 1, "pod": "a-train-1-x7k2p"}
    <-- {"admitted": true}
    <-- {"welcome": "4c1d…"}                              once all have joined: the token
    <-- {"missing": [2]}                                  if some do not join in time
    <-- {"replaced": "a-train-1-9bcd4"}                   by another Pod with the same index
    <-- {"lost": 2}                                       after `welcome`, when a Pod is lost
    <-> {"bye": true}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final

from jobrelay_runner.errors import PeerLost, Superseded
from jobrelay_runner.volume.paths import ENV_ADDRESS, ENV_LEADER
from jobrelay_runner.volume.safe_read import read_bytes
from jobrelay_train.distributed.membership import Line, Membership
from jobrelay_train.program import Context

#: Where index 0 listens in a cluster, where every Pod has its own address. If the port is taken, as on one
#: machine, index 0 takes any other, and the file names it.
PORT: Final = 29400
#: The file holds an address and a port; a larger one is not read.
_ADDRESS_BYTES: Final = 64 * 1024
#: Kubernetes waits up to 6 minutes before it starts another attempt of a Pod that has failed.
TIMEOUT_SECONDS: Final = 600.0

_POLL_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 3.0
#: Most connections that have not identified themselves; one more closes the oldest.
_STRANGERS: Final = 256


def rendezvous(
    context: Context,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    environment: Mapping[str, str] = os.environ,
) -> Membership:
    """Join the other Pods of this attempt. Call it once in each of the `train.nodes` Pods.

    Returns when all have joined, with the same address, port and token on each. Raises PeerLost, naming the
    indexes that have not joined in time; Superseded if another Pod has joined with the same index.

    The Membership is a context manager for everything that the Pods do together. It turns a RuntimeError,
    which torch.distributed raises when a peer is gone, into a PeerLost that names the peer. It ends a stage
    that does not end by itself soon after a loss (membership.GRACE_SECONDS), with exit code PEER_LOST.

        with rendezvous(context) as membership:
            store = TCPStore(
                membership.address, membership.port, is_master=membership.index == 0,
                master_listen_fd=membership.take_listener(),
            )
            init_process_group("gloo", store=PrefixStore(membership.token, store), rank=…, world_size=…)
    """
    deadline = time.monotonic() + timeout_seconds
    if context.index == 0:
        joining = _admit(context, environment.get(ENV_ADDRESS) or "127.0.0.1", deadline)
    else:
        joining = _join(context, environment.get(ENV_LEADER) or "", deadline)
    joined: Future[Membership] = Future()
    threading.Thread(target=lambda: asyncio.run(_take_part(joining, joined)), daemon=True).start()
    return joined.result()


async def _take_part(joining: Coroutine[Any, Any, Membership], joined: Future[Membership]) -> None:
    try:
        membership = await joining
    except BaseException as error:
        joined.set_exception(error)
        return
    joined.set_result(membership)
    await membership.stay()


async def _admit(context: Context, address: str, deadline: float) -> Membership:
    """Wait, as index 0, until all others have joined."""
    wanted = set(range(1, context.config.train.nodes))
    joined: dict[int, Line] = {}
    strangers: list[Line] = []  # have not identified themselves yet; in order of arrival
    listener = _listen(address)
    place = {"address": address, "port": listener.getsockname()[1], "pod": context.pod}
    membership, news = Membership(0, address, place["port"], joined), asyncio.Event()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        strangers.append(line)
        if len(strangers) > _STRANGERS:
            strangers[0].close()
        message = await line.receive(_CONNECT_SECONDS) or {}
        strangers.remove(line)
        index, name = message.pop("index", None), message.pop("pod", None)
        known = message == _identity(context) and isinstance(index, int) and index in wanted
        if not known or membership.token:  # not one of our Pods, from another run, or too late
            line.close()
            return
        if earlier := joined.get(index):  # as in jobrelay_runner.fence, the later of two wins
            earlier.send({"replaced": str(name)})
            earlier.close()
        joined[index] = line
        line.send({"admitted": True})
        news.set()
        await membership.hear(index, line)

    # The stage's store takes over the socket; one that it opens itself would listen on all interfaces.
    server = await asyncio.start_server(meet, sock=listener.dup(), backlog=256)
    try:
        context.fence.write(context.folder.rendezvous(context.stage), json.dumps(place) + "\n")
        while missing := sorted(wanted - joined.keys()):
            context.fence.check()
            if time.monotonic() > deadline:
                for line in joined.values():
                    line.send({"missing": missing})
                raise _absent(missing, context)
            news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _POLL_SECONDS)
    except BaseException:
        listener.close()
        strangers += joined.values()
        raise
    finally:
        server.close()
        for line in strangers:
            line.close()
    membership.token, membership.listener = secrets.token_hex(16), listener
    for line in joined.values():
        line.send({"welcome": membership.token})
    return membership


async def _join(context: Context, leader: str, deadline: float) -> Membership:
    """Join as any other index: find index 0, and wait until all have joined."""
    trouble = ""
    while time.monotonic() < deadline:
        for address, port in _places(context, leader):
            try:
                line = await _connect(context, address, port)
            except OSError as error:
                trouble = f"{address}, port {port}: {error.strerror or error}"
                continue
            message = await line.receive(max(deadline - time.monotonic(), 0) + _CONNECT_SECONDS) or {}
            if token := message.get("welcome"):
                membership = Membership(context.index, address, port, {0: line})
                membership.token = str(token)
                return membership
            line.close()
            if name := message.get("replaced"):
                raise Superseded(f"{name} has joined with the same index; this one ends")
            if missing := message.get("missing"):
                raise _absent(missing, context)
            trouble = f"{address}, port {port}: it closed the connection"
        await asyncio.sleep(_POLL_SECONDS)
    raise _absent([0], context, trouble)


async def _connect(context: Context, address: str, port: int) -> Line:
    """Connect to index 0, which must admit this Pod. Raises OSError."""
    connection = socket.create_connection((address, port), timeout=_CONNECT_SECONDS)
    connection.setblocking(False)
    line = Line(*await asyncio.open_connection(sock=connection))
    line.send({**_identity(context), "index": context.index, "pod": context.pod})
    if not (await line.receive(_CONNECT_SECONDS) or {}).get("admitted"):
        line.close()
        raise ConnectionRefusedError("it is not index 0 of this run")
    return line


def _places(context: Context, leader: str) -> Iterator[tuple[str, int]]:
    """Yield where index 0 may be: by its file, then by its name. Either may be stale, or not exist yet.

    The file comes first, because a name that no server resolves can take the better part of a minute.
    """
    folder = context.folder
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        place = json.loads(read_bytes(folder.rendezvous(context.stage), _ADDRESS_BYTES, root=folder.root))
        yield str(place["address"]), int(place["port"])
    if leader:
        with contextlib.suppress(OSError):
            for found in socket.getaddrinfo(leader, PORT, type=socket.SOCK_STREAM):
                yield str(found[4][0]), PORT


def _identity(context: Context) -> dict[str, str]:
    """Return what all Pods of one stage have in common."""
    return {
        "run": context.folder.run,
        "stage": context.stage,
        "config": context.config_hash,
    }


def _absent(missing: list[int], context: Context, trouble: str = "") -> PeerLost:
    which = f"index {missing[0]} has" if len(missing) == 1 else f"indexes {', '.join(map(str, missing))} have"
    nodes = context.config.train.nodes
    return PeerLost(
        f"{which} not joined: {nodes} Pods train together, and all must run at the same time"
        + (f" ({trouble})" if trouble else "")
    )


def _listen(address: str) -> socket.socket:
    """Return a socket that listens on PORT of the address, or on any port if that one is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, PORT), family=family)
    except OSError:
        return socket.create_server((address, 0), family=family)
