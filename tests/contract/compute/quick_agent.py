"""The real agent with short intervals and a replica to choose:

`quick_agent.py <home> <fork|exec> <patience> <replica>`.
"""

import sys
from pathlib import Path

from modelry.core.bell import Bell
from modelry.core.home import Home
from modelry.worker.agent.serving import serve
from modelry.worker.agent.starting import Starter

if __name__ == "__main__":
    home = Home(Path(sys.argv[1]))
    starter = Starter(home.root, sys.argv[2], replica=sys.argv[4], patience_s=float(sys.argv[3]))
    sys.exit(serve(home, starter, Bell(home.sockets / "bells"), look_s=0.1))
