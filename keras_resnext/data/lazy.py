"""TensorFlow, imported when it is first used: tables of names and arguments are read without it."""

from typing import TYPE_CHECKING, Any


class _TensorFlow:
    def __getattr__(self, name: str) -> Any:
        import tensorflow

        return getattr(tensorflow, name)


if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = _TensorFlow()
