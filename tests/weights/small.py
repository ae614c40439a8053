"""Fields that make a ResNet18 or a ResNet50 of one narrow block per stage."""

SMALL = {"blocks": (1, 1, 1, 1), "filters": (8, 12, 16, 20)}
