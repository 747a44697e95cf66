"""`python jobs train`: Python puts this folder, which holds the packages, first on its path."""

import sys

from jobrelay_train.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
