"""``python -m trainer.node ATTEMPT_DIR [options] -- -m trainer train …``: one node of an attempt.

``python -m trainer.node --from FILE`` reads all that, and environment variables, from the attempt's ``start.json``.
"""

import argparse
import os
import sys
from pathlib import Path

from trainer.contract.errors import ContractError
from trainer.contract.exit_codes import BAD_INPUT
from trainer.contract.nodes import NodeStart
from trainer.node.place import node_number
from trainer.node.run import Node, Plan


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.node", description=__doc__)
    parser.add_argument("attempt_dir", type=Path, help="what the nodes of this attempt share")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=0, help="processes under torchrun here; 0: the command alone")
    parser.add_argument("--port", type=int, help="where the ranks meet on node 0; a free one when not given")
    parser.add_argument("--seconds", type=float, help="end after so long, whatever goes on")
    parser.add_argument("--patience", type=float, default=Plan.patience, help="seconds to wait for the other nodes")
    parser.add_argument("--watch-spot", action="store_true", help="stop when the host is about to be taken away")
    parser.add_argument("--echo", action="store_true", help="repeat the log on standard output")
    parser.add_argument("command", nargs="+", help="what follows the Python interpreter")
    given = vars(parser.parse_args(_arguments(sys.argv[1:] if argv is None else argv)))
    plan = Plan(**{**given, "command": tuple(given["command"])})
    try:
        number = node_number(plan.nodes)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return BAD_INPUT
    return Node(plan, number).run()


def _arguments(argv: list[str]) -> list[str]:
    if argv[:1] != ["--from"]:
        return argv
    start = NodeStart.model_validate_json(Path(argv[1]).read_bytes())
    os.environ.update(start.environment)
    return list(start.arguments)


if __name__ == "__main__":
    sys.exit(main())
