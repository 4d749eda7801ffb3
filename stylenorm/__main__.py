"""``python -m stylenorm``: the command line."""

import sys

from stylenorm.cli import main

if __name__ == "__main__":
    sys.exit(main())
