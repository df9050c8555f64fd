"""``python -m dispatcharr``: the same as the command ``dispatcharr``."""

import sys

from dispatcharr.cli import main

if __name__ == "__main__":
    sys.exit(main())
