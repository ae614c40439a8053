"""What the layers on feature maps share: where the channels are."""

import keras

from keras_resnext.errors import one_of


class ImageLayer(keras.layers.Layer):
    """A layer on images that keeps where their channels are.

    A file then means the same where Keras's data format is another.

    Args:
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's data format.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: if `data_format` is none of these.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if data_format is None:
            data_format = keras.config.image_data_format()
        one_of("data_format", data_format, ("channels_last", "channels_first"))
        self.data_format = data_format

    @property
    def channel_axis(self):
        """-1 or 1."""
        return -1 if self.data_format == "channels_last" else 1

    @property
    def spatial_axes(self):
        """Those of height and width."""
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
