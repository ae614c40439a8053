"""The package's version, read by setup.cfg and by `keras-resnext --version`."""

__version__ = "0.1.0"
