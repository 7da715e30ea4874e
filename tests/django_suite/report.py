"""What the comparison has to say, and whether it is good."""

from __future__ import annotations

from collections.abc import Sequence

from tests.django_suite.outcome import BAD, MISSING, Difference, Result, differences, table


def report(results: Sequence[Result], at_least: int) -> bool:
    """Print the table, the differences and the closing line; true if all is well."""
    print(f"\n{table(results)}\n")
    by_engine = {result.engine: result for result in results}
    first = results[0]
    if len(results) > 1:
        stock = by_engine.pop("stock" if "stock" in by_engine else "flushed")
        failures = sum(_compare(ours, stock) for ours in by_engine.values())
    else:
        failures = _fails(first, first.of(*BAD), f"Fails on {first.engine}")
    passed = len(first.of("passed"))
    enough = passed > 0 and all(result.ran >= at_least for result in results)
    if not enough:
        print(f"Too few tests: {passed} passed, and at least {at_least} are expected to run")
    print(f"\n{passed} passed, {failures + (not enough)} failed")
    return failures == 0 and enough


def _compare(ours: Result, stock: Result) -> int:
    found = differences(ours, stock)
    print(f"Differences between {ours.engine} and {stock.engine}: {len(found) or 'none'}")
    for difference in found:
        _tell(difference, ours, stock)
    _fails(stock, sorted({*stock.of(*BAD)} & {*ours.of(*BAD)}), "Fails on both engines")
    if ours.leases is not None:
        print(f"{ours.engine} took a pin {ours.leases} times")
    if ours.cuts is not None:
        print(f"{ours.engine} lost its connection {ours.cuts} times")
    fewer = stock.ran > ours.ran or 0 in (ours.leases, ours.cuts)
    if fewer:
        print(f"{ours.engine} ran {ours.ran} tests, {stock.engine} {stock.ran}")
    # A class that fails as a whole is one difference, or several: the tests it kept from running.
    return sum(difference.is_failure for difference in found) or int(fewer)


def _tell(difference: Difference, ours: Result, stock: Result) -> None:
    mark = "FAILURE" if difference.is_failure else "not a failure of ours"
    print(f"  {difference.test}: ours {difference.ours}, stock {difference.stock} ({mark})")
    for result, outcome in ((ours, difference.ours), (stock, difference.stock)):
        if outcome != MISSING and (detail := result.details[difference.test]):
            # The end of a traceback says it; the rest is in the log.
            print("\n".join(f"    {result.engine}| {line}" for line in detail.splitlines()[-25:]))


def _fails(result: Result, tests: Sequence[str], what: str) -> int:
    print(f"{what}: {len(tests) or 'none'}")
    for test in tests:
        last = (result.details[test].strip().splitlines() or [""])[-1]
        print(f"  {test}: {result.outcomes[test]}: {last}")
    return len(tests)
