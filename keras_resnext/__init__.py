"""ResNet and ResNeXt for Keras 3, in the style of keras.applications.

The public names are listed in `__init__.pyi`, which editors and the lazy loader read. Nothing heavy
is imported before it is used, so that the command line answers at once.
"""

import os
import sys
from types import ModuleType

import lazy_loader
import wrapt

from keras_resnext.processor import is_x86

# TensorFlow itself turns oneDNN on only if it finds AVX-512 VNNI or the like, although networks
# train 1.1 to 2.2 times as fast with it on AVX2 too. TensorFlow reads this during its import.
if is_x86() and "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("keras")
def _register(_: ModuleType) -> None:
    """Register our classes for `keras.saving.load_model`, in whatever order one imports."""
    from keras_resnext import layers  # noqa: F401
    from keras_resnext.models import auxiliary  # noqa: F401
    from keras_resnext.training import losses, optimizers, schedules  # noqa: F401
