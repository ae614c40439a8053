"""``python -m keras_resnext`` is the ``keras-resnext`` command."""

import sys

from keras_resnext.cli import main

if __name__ == "__main__":
    sys.exit(main())
