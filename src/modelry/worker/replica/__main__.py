"""`python -m modelry.worker.replica <worker folder> <home root> <lock descriptor>`."""

import sys
from pathlib import Path

from modelry.worker.replica import main

main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
