"""``python -m stylenorm``, and ``stylenorm``: the command line."""

import sys


def run() -> int:
    """`stylenorm.cli.main`; a Ctrl-C while that, or a verb, is imported is no traceback, either."""
    try:
        from stylenorm.cli import main

        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
