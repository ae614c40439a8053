"""Inception networks of a few filters, with every kind of layer that the large ones have."""

from keras_resnext.models import inception_tables as tables

# All kinds of residual modules.
TINY_RESNET = tables.RESNET_V2.replace(
    stem_filters=(4, 4, 8, 8, 8),
    stages=(
        (("a", (4,) * 7), ("residual_a", (4,) * 6)),
        (("a_reduction", (4,) * 4), ("residual_b", (4,) * 4)),
        (("residual_b_reduction", (4,) * 7), ("residual_c", (4,) * 4), ("residual_c", (4,) * 4)),
    ),
    final_filters=16,
)
TINY_V1 = tables.V1.replace(
    stem_filters=(4, 4, 8),
    stages=((("v1", (4,) * 6),), (("v1", (4,) * 6), ("v1", (4,) * 6)), (("v1", (4,) * 6),)),
    auxiliary_after=("stage3_block1", "stage3_block2"),
    dropout=0.0,
)
# The heads of v3, which have no dropout, on a network of few filters.
TINY_V3 = tables.V3.replace(
    stem_filters=(2, 2, 4, 4, 4),
    stages=(
        (("a", (2,) * 7),),
        (("a_reduction", (2,) * 4), ("b", (2,) * 10)),
        (("b_reduction", (2,) * 6), ("c", (2,) * 9)),
    ),
    auxiliary_after=("stage3_block2",),
)
