"""Hyperparameter search: the space, the oracles, running it on many machines, its report.

Nothing heavy is imported before it is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "hypermodel": ["ResNeXtHyperModel"],
        "report": ["write_report"],
        "run": ["go_on", "search"],
        "space": ["Space", "load_space"],
    },
)
