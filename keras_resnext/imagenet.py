"""Mean and deviation of ImageNet's training images, by channel, of pixels from 0 to 1.

What published networks were trained with, and near enough to any photograph for a network that
begins with a batch norm.
"""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
