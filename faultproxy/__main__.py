"""python -m faultproxy --context CTX --rules rules.yaml --kubeconfig out.yaml"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from .proxy import FaultProxy
from .records import Request
from .rules import BadRule, read_rules


def main() -> int:
    parser = argparse.ArgumentParser(prog="faultproxy", description="Faults before a Kubernetes API server.")
    parser.add_argument("--context", help="of your kubeconfig; the current one, if not given")
    parser.add_argument("--rules", type=Path, help="a YAML file (see README.md); none: nothing happens")
    parser.add_argument("--kubeconfig", type=Path, help="write one that leads here")
    parser.add_argument("--port", type=int, default=0, help="to listen on; any, if not given")
    parser.add_argument(
        "--all", action="store_true", help="print every request, not only those that are struck"
    )
    asked = parser.parse_args()

    def tell(request: Request) -> None:
        if request.struck or asked.all:
            print(
                f"{request.fault if request.struck else '':<13} {request.status or '-':>3} "
                f"{request.bytes:>9} B  {request}",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    try:
        rules = read_rules(asked.rules) if asked.rules else []
        with FaultProxy(asked.context, rules, port=asked.port, on_end=tell) as proxy:
            if asked.kubeconfig:
                proxy.write_kubeconfig(asked.kubeconfig)
            print(proxy.url, flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except (BadRule, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
