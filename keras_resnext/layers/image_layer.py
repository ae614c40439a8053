"""The base of the layers on feature maps: the axis of their channels."""

import keras

from keras_resnext.checks import check, choice


class ImageLayer(keras.layers.Layer):
    """A layer on images that saves its data format, so that a file does not depend on Keras's.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's data format.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, data_format: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if data_format is None:
            data_format = keras.config.image_data_format()
        check("data_format", data_format, choice(("channels_last", "channels_first")))
        self.data_format = data_format

    @property
    def channel_axis(self) -> int:
        """Axis of the channels, -1 or 1."""
        return -1 if self.data_format == "channels_last" else 1

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """Axes of height and width."""
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def get_config(self) -> dict:
        return {**super().get_config(), "data_format": self.data_format}
