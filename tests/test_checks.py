"""The rules for arguments."""

import numpy as np
import pytest

from keras_resnext import checks

# A rule, what follows it, what does not, and how it is told.
RULES = (
    (checks.integer(1), (1, 7), (0, -1, 1.0, True, None, "1"), "an integer of at least 1"),
    (checks.integer(0, 4), (0, 4), (-1, 5), "an integer from 0 to 4"),
    (checks.integers(1), ((1,), [3, 4]), ((), (0,), (True,), 3, "12"), "integers of at least 1"),
    (checks.integers(1, 2), ((1, 2),), ((1,), (1, 2, 3)), "2 integers of at least 1"),
    (
        checks.number(0, below=1),
        (0, 0.5),
        (1, -0.1, False, float("nan"), "0"),
        "a number of at least 0 and below 1",
    ),
    (checks.number(above=0), (1e-9, 5), (0, -1, float("inf")), "a number above 0"),
    (checks.number(0, 1), (0, 1), (1.1,), "a number from 0 to 1"),
    (checks.choice(("se", "eca")), ("se",), ("ese", None, 1), 'one of "se", "eca"'),
    (checks.flag(), (True, False), (1, 0, None, "True"), "True or False"),
    (checks.optional(checks.integer(1)), (None, 2), (0,), "an integer of at least 1, or None"),
)


@pytest.mark.parametrize("rule, good, bad, expected", RULES, ids=lambda value: str(value)[:40])
def test_a_rule_holds_for_what_it_tells(rule, good, bad, expected):
    assert rule.expected == expected
    for value in good:
        checks.check("field", value, rule)
    for value in bad:
        with pytest.raises(ValueError, match="field"):
            checks.check("field", value, rule)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match='Unknown attention "ecca". Did you mean "eca"?'):
        checks.check("attention", "ecca", checks.choice(("se", "eca")))


def test_the_fields_of_an_object_are_checked_by_a_table():
    class Point:
        x, y = 1, -1

    checks.check_fields(Point, {"x": checks.integer(0)})
    with pytest.raises(ValueError, match="`y`. Expected an integer of at least 0. Received: y=-1"):
        checks.check_fields(Point, {"x": checks.integer(0), "y": checks.integer(0)})


def test_numpy_scalars_are_no_python_integers():
    with pytest.raises(ValueError):
        checks.check("n", np.float32(1), checks.integer(0))
