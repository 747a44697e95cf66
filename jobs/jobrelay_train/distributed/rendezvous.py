"""How the Pods of one stage find each other, and learn that one of them is lost.

The Pod with index 0 listens. The others find it by a small file on the volume, or by its name in the
cluster's DNS, which the run's headless Service provides. They use whichever works first; neither needs the
other. Each Pod keeps its connection until the stage ends. Once all have joined, index 0 sends them the
address of the stage's own store; when a Pod disconnects without `bye`, it sends all others that index.

Stale addresses are never used: no process answers for this run at a file or name of an earlier attempt. Only
a living process with index 0 sends `welcome`, and its token is unique to this attempt.

    --> {"run": "a", "stage": "train", "config": "9f86…", "index": 1, "pod": "a-train-1-x7k2p"}
    <-- {"admitted": true}
    <-- {"welcome": {"port": 41233, "token": "4c1d…"}}    once all have joined
    <-- {"missing": [2]}                                  if some do not join in time
    <-- {"replaced": "a-train-1-9bcd4"}                   by another Pod with the same index
    <-- {"lost": 2}                                       after `welcome`, when a Pod is lost
    <-> {"bye": true}
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Self

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
        with _Admission(context, environment.get(ENV_ADDRESS) or "127.0.0.1") as admission:
            return admission.wait(deadline)
    return _join(context, environment.get(ENV_LEADER) or "", deadline)


@dataclass(frozen=True, eq=False)
class _Stranger:
    """A connection that has not identified itself yet, and its deadline."""

    line: Line
    until: float


class _Admission:
    """Index 0, until all others have joined."""

    def __init__(self, context: Context, address: str) -> None:
        self._context = context
        self._address = address
        self._wanted = set(range(1, context.config.train.nodes))
        self._listener = _listen(address, PORT)
        self._listener.setblocking(False)
        self._joined: dict[int, Line] = {}
        self._strangers: list[_Stranger] = []  # in order of arrival
        self._token = secrets.token_hex(16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._listener.close()
        for stranger in self._strangers:
            stranger.line.close()
        for line in self._joined.values() if kind else ():
            line.close()

    def wait(self, deadline: float) -> Membership:
        """Wait until all others have joined. Raises PeerLost, Superseded."""
        place = {"address": self._address, "port": self._listener.getsockname()[1]}
        path = self._context.folder.rendezvous(self._context.stage)
        self._context.fence.write(path, json.dumps({**place, "pod": self._context.pod}) + "\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while missing := self._wanted - self._joined.keys():
                self._context.fence.check()
                if time.monotonic() > deadline:
                    self._give_up(sorted(missing))
                for key, _ in selector.select(timeout=_POLL_SECONDS):
                    if key.fileobj is self._listener:
                        self._open(selector)
                    elif isinstance(key.data, _Stranger):
                        self._listen_to(key.data, selector)
                    elif self._joined[key.data].socket is key.fileobj:  # otherwise replaced a moment ago
                        self._dismiss(key.data, selector)  # no Pod sends anything yet, so it has disconnected
                self._close_silent(selector)
            while self._strangers:
                self._refuse(self._strangers[0], selector)
        listener = _listen(self._address, 0)
        port = listener.getsockname()[1]
        for line in self._joined.values():
            line.send({"welcome": {"port": port, "token": self._token}})
        return Membership(0, self._address, port, self._token, self._joined, listener)

    def _open(self, selector: selectors.BaseSelector) -> None:
        """Accept a connection; connections identify themselves concurrently, so none delays the others."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone already
            return
        connection.setblocking(False)
        stranger = _Stranger(Line(connection), time.monotonic() + _CONNECT_SECONDS)
        self._strangers.append(stranger)
        selector.register(connection, selectors.EVENT_READ, stranger)
        if len(self._strangers) > _STRANGERS:
            self._refuse(self._strangers[0], selector)

    def _close_silent(self, selector: selectors.BaseSelector) -> None:
        """Close the connections that have not identified themselves in time."""
        while self._strangers and self._strangers[0].until < time.monotonic():
            self._refuse(self._strangers[0], selector)

    def _refuse(self, stranger: _Stranger, selector: selectors.BaseSelector) -> None:
        self._strangers.remove(stranger)
        selector.unregister(stranger.line.socket)
        stranger.line.close()

    def _listen_to(self, stranger: _Stranger, selector: selectors.BaseSelector) -> None:
        line = stranger.line
        if stranger not in self._strangers or not line.arrived():  # refused a moment ago, or incomplete
            return
        message = line.receive() or {}
        index = message.pop("index", None)
        name = message.pop("pod", None)
        if message != _identity(self._context) or not isinstance(index, int) or index not in self._wanted:
            self._refuse(stranger, selector)  # from another run, or not one of our Pods
            return
        self._strangers.remove(stranger)
        if index in self._joined:  # as in jobrelay_runner.fence, the later of two wins
            self._joined[index].send({"replaced": str(name)})
            self._dismiss(index, selector)
        line.socket.setblocking(True)
        line.send({"admitted": True})
        self._joined[index] = line
        selector.modify(line.socket, selectors.EVENT_READ, index)

    def _dismiss(self, index: int, selector: selectors.BaseSelector) -> None:
        line = self._joined.pop(index)
        selector.unregister(line.socket)
        line.close()

    def _give_up(self, missing: list[int]) -> NoReturn:
        for line in self._joined.values():
            line.send({"missing": missing})
        raise _absent(missing, self._context)


def _join(context: Context, leader: str, deadline: float) -> Membership:
    """Join as any other index: find index 0, and wait until all have joined."""
    trouble = ""
    while time.monotonic() < deadline:
        for address, port in _places(context, leader):
            try:
                line = _connect(context, address, port)
            except OSError as error:
                trouble = f"{address}, port {port}: {error.strerror or error}"
                continue
            message = line.receive(max(deadline - time.monotonic(), 0) + _CONNECT_SECONDS) or {}
            line.socket.settimeout(None)
            if welcome := message.get("welcome"):
                return Membership(
                    context.index, address, int(welcome["port"]), str(welcome["token"]), {0: line}
                )
            line.close()
            if name := message.get("replaced"):
                raise Superseded(f"{name} has joined with the same index; this one ends")
            if missing := message.get("missing"):
                raise _absent(missing, context)
            trouble = f"{address}, port {port}: it closed the connection"
        time.sleep(_POLL_SECONDS)
    raise _absent([0], context, trouble)


def _connect(context: Context, address: str, port: int) -> Line:
    """Connect to index 0, which must admit this Pod. Raises OSError."""
    line = Line(socket.create_connection((address, port), timeout=_CONNECT_SECONDS))
    line.send({**_identity(context), "index": context.index, "pod": context.pod})
    if not (line.receive(_CONNECT_SECONDS) or {}).get("admitted"):
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


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens on that port of the address, or on any port if that one is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=256)
    except OSError:
        if not port:
            raise
        return socket.create_server((address, 0), family=family, backlog=256)
