"""``python -m slipstream`` is the command ``slipstream``."""

import sys

from slipstream.app.main import main

if __name__ == "__main__":
    sys.exit(main())
