"""``python -m demos`` is ``novelscope``."""

import sys

from demos.cli import main

if __name__ == "__main__":
    sys.exit(main())
