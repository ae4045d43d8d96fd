"""The manners of a scikit-learn estimator without scikit-learn: parameters, copies, tags, and text.

scikit-learn is imported only inside of methods that scikit-learn itself calls.

What must hold (scikit-learn's rules): `__init__` only stores its arguments, `fit` never changes them, attributes that a
fit adds end in an underscore, and a second fit replaces everything that the first one added.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, Self

import numpy as np

from ._options import unknown


class Estimator:
    """An object with parameters and a `fit`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _with_hints(cls.__init__, cls.__name__)  # type: ignore[method-assign]

    @classmethod
    def _parameters(cls) -> list[inspect.Parameter]:
        signature = inspect.signature(cls.__init__)
        return [p for p in list(signature.parameters.values())[1:] if p.kind is not p.VAR_KEYWORD]

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted(parameter.name for parameter in cls._parameters())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the parameters by name.

        Parameters
        ----------
        deep : bool, default True
            Without effect: no parameter is an estimator. scikit-learn passes it.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in self._get_param_names()}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by name.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no parameter of that name.
        """
        known = self._get_param_names()
        for name in params:
            if name not in known:
                raise ValueError(unknown(type(self).__name__, name, known))
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = []
        for parameter in self._parameters():
            value = getattr(self, parameter.name, parameter.default)
            if value is not parameter.default and repr(value) != repr(parameter.default):
                changed.append(f"{parameter.name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            # Maps and scores are single precision whatever the input is.
            transformer_tags=TransformerTags(preserves_dtype=["float32"]),
            input_tags=InputTags(allow_nan=False, sparse=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    @property
    def _width(self) -> int:
        """The number of components of a result."""
        return self.n_components_  # type: ignore[attr-defined]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Returns the names of the components: the class's name in lower case, and a number.

        Parameters
        ----------
        input_features : ignored
            For scikit-learn.

        Returns
        -------
        ndarray of str objects, (n_components,)
        """
        self._check_fitted()
        return np.asarray([f"{type(self).__name__.lower()}{i}" for i in range(self._width)], dtype=object)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            name = type(self).__name__
            raise _not_fitted()(f"this {name} is not fitted yet: call fit or fit_transform first")

    def _check_names(self, names: list[str] | None, fitted: Any = None) -> None:
        """Refuses a frame whose columns are not those of the fit, or not those of the first batch, `fitted`."""
        fitted = getattr(self, "feature_names_in_", None) if fitted is None else fitted
        if fitted is None and names is None:
            return
        if names is None or fitted is None:
            import warnings

            which = "was fitted with feature names" if names is None else "was fitted without feature names"
            told = f"X does not have valid feature names, but {type(self).__name__} {which}"
            if fitted is None:
                told = f"X has feature names, but {type(self).__name__} {which}"
            warnings.warn(told, UserWarning, stacklevel=3)
        elif list(fitted) != names:
            raise ValueError(_other_names(list(fitted), names))

    def _forget(self) -> None:
        """Removes what an earlier fit added."""
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def get_metadata_routing(self) -> Any:
        """Returns scikit-learn's description of what `fit` takes beside X: nothing."""
        from sklearn.utils.metadata_routing import MetadataRequest

        return MetadataRequest(owner=self)


def _with_hints(init: Any, name: str) -> Any:
    """Returns an `__init__` that says, for a name it does not have, what the parameter is called here."""
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        for given in kwargs:
            if given not in known:
                raise TypeError(unknown(name, given, known))
        init(self, *args, **kwargs)

    return checked


def _not_fitted() -> type[Exception]:
    """Returns scikit-learn's NotFittedError if scikit-learn is in use, or else one of the same bases."""
    if "sklearn" in sys.modules:
        from sklearn.exceptions import NotFittedError as Theirs

        return Theirs
    return NotFittedError


class NotFittedError(ValueError, AttributeError):
    """A result was asked of an estimator before `fit`."""


def _other_names(fitted: list[str], names: list[str]) -> str:
    told = ["The feature names should match those that were passed during fit."]
    unseen = sorted(set(names) - set(fitted))
    missing = sorted(set(fitted) - set(names))
    for title, some in (("unseen at fit time", unseen), ("seen at fit time, yet now missing", missing)):
        if some:
            told.append(f"Feature names {title}:")
            told.extend([f"- {name}" for name in some[:5]] + ["- ..."] * (len(some) > 5))
    if not unseen and not missing:
        told.append("Feature names must be in the same order as they were in fit.")
    return "\n".join(told) + "\n"


def _short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    text = f"<{type(value).__name__} {shape}>" if shape is not None and shape != () else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
