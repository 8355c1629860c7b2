"""`python -m modelry.worker.agent`: the agent of one home, until its parent ends or it is told to shut down."""

from __future__ import annotations

import sys

from modelry.core.bell import Bell
from modelry.core.errors import ModelryError
from modelry.core.settings import load_settings
from modelry.worker.agent.serving import serve
from modelry.worker.agent.starting import Starter, resolve_start_method


def main() -> int:
    """Read the settings and serve."""
    try:
        settings = load_settings()
    except ModelryError as error:
        print(error, file=sys.stderr)
        return 2
    home = settings.places
    starter = Starter(settings.home, resolve_start_method(settings.start_method))
    return serve(home, starter, Bell(home.sockets / "bells", settings.bell))


if __name__ == "__main__":
    sys.exit(main())
