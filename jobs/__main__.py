"""`python jobs train`: Python puts this folder first on its path, where the packages are."""

import sys

from jobrelay_train.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
