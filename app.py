"""Start the page: python app.py, with the options of `python -m srgui serve`."""

import sys

from srgui.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    main()
