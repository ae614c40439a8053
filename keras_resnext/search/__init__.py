"""Hyperparameter search: spaces, oracles, runs on many machines, and reports."""

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "driver": ["resume", "search"],
        "hypermodel": ["ResNeXtHyperModel"],
        "report": ["write_report"],
        "space": ["Space", "load_space"],
    },
)


def __getattr__(name: str) -> object:
    if name == "go_on":
        raise AttributeError("`keras_resnext.search.go_on` is called `resume`.")
    return _attribute(name)
