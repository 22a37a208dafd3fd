"""Robustness as a test: a decorator for pytest, and the plugin that sums up what was measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PROPERTY = "robust accuracy"
"""Property of a test report, also in pytest's JUnit XML, that says what was measured."""


def robust(
    threat: str,
    at_least: float,
    *,
    data: Any = None,
    images: int = 200,
    seed: int = 0,
    probes: tuple[str, ...] = ("robustness",),
    undecided: str = "fail",
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Turn a function that returns a model into a test of its robust accuracy.

    The test passes if the 95% interval of the robust accuracy lies at or above `at_least`, fails if
    it lies below, and does what `undecided` says if the images are too few to tell. Fixtures of the
    function work as in any other test.

    Args:
        threat: norm and size, "linf:0.1".
        at_least: share of the test images, from 0 to 1.
        data: test data as `scotoma.audit` takes it; None if the function returns `(model, data)`.
        images: number of test images, drawn at random.
        seed: seed for all random numbers.
        probes: probes to run; each verdict other than that of `robustness` must not be "broken".
        undecided: "fail" or "skip".
        **options: further arguments of `scotoma.audit`.

    Raises:
        InputError: an argument cannot be used.

    >>> @robust(threat="linf:0.1", at_least=0.8, data="digits", images=50)
    ... def test_my_model():
    ...     return scotoma.load_model("model.safetensors")
    >>> test_my_model.__name__
    'test_my_model'
    """
    from scotoma.utils.errors import InputError

    if not 0 <= at_least <= 1:
        raise InputError(f"at_least={at_least}: want a share from 0 to 1")
    if undecided not in ("fail", "skip"):
        raise InputError(f"undecided={undecided!r}: want 'fail' or 'skip'")

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        if isinstance(function, type) or not callable(function):
            raise InputError(
                f"robust decorates a function that returns a model, not {function!r}; in a class "
                "decorate its methods"
            )

        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            from scotoma.auditing import audit
            from scotoma.claims.gate import gate
            from scotoma.claims.rules import parse

            returned, given = function(*args, **kwargs), data
            if returned is None:
                pytest.fail(f"{function.__name__} returned None; return the model", pytrace=False)
            if given is None:
                if not isinstance(returned, tuple) or len(returned) != 2:
                    why = "give data=..., or return a model and its data"
                    pytest.fail(f"{function.__name__}: {why}", pytrace=False)
                returned, given = returned
            try:
                report = audit(
                    returned, given, threat, limit=images, seed=seed, probes=probes, **options
                )
            except InputError as error:
                pytest.fail(str(error), pytrace=False)
            rules = [f"robust_accuracy >= {at_least:g}"]
            rules += [f"{name} != broken" for name in probes if name != "robustness"]
            decided = gate(report, list(map(parse, rules)))
            setattr(test, PROPERTY, "; ".join(each.reason for each in decided.decisions))
            told = "; ".join(
                f"{each.rule}: {each.result} ({each.reason})"
                for each in decided.decisions
                if each.result == decided.result
            )
            if decided.result == "undecided" and undecided == "skip":
                pytest.skip(told)
            if decided.result != "passed":
                pytest.fail(f"{told}; report: {report.html}", pytrace=False)

        return test

    return decorate


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note what a decorated test measured, so that it reaches the report from any process."""
    yield
    measured = getattr(getattr(item, "function", None), PROPERTY, None)
    if measured:
        item.user_properties.append((PROPERTY, measured))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each decorated test measured."""
    lines = [
        f"{report.nodeid}: {outcome}, {measured}"
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        for name, measured in getattr(report, "user_properties", [])
        if name == PROPERTY and report.when == "call"
    ]
    if lines:
        terminalreporter.section("robust accuracy")
    for line in lines:
        terminalreporter.write_line(line)
