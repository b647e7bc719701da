"""Ranks that stay for the whole session, and the largest difference between several processes and one."""

from functools import cache

import pytest

from tests.distributed.ranks import Ranks, difference

_FIGURE = "largest relative difference"


@pytest.fixture(scope="session")
def on_ranks(tmp_path_factory):
    """``on_ranks(world, job, *given)``: what the job returns on each of so many gloo processes."""
    started = {}

    def run(world, job, *given):
        if world not in started:
            started[world] = Ranks(world, tmp_path_factory.mktemp(f"ranks{world}"))
        try:
            return started[world](job, *given)
        except BaseException:
            started.pop(world).end()
            raise

    yield run
    for each in started.values():
        each.end()


@pytest.fixture(scope="session")
def once_on_ranks(on_ranks):
    """The same, computed once for the whole session."""
    return cache(on_ranks)


@pytest.fixture
def same(request):
    """``same(found, expected, what)``: equal within 1e-6 of the largest value; the largest difference is printed."""

    def check(found, expected, what):
        distance = difference(found, expected)
        request.node.user_properties.append((_FIGURE, distance))
        assert distance <= 1e-6, f"{what} differs by {distance:.2e} of its largest value"

    return check


def pytest_terminal_summary(terminalreporter):
    largest = {}
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == _FIGURE:
                test = report.nodeid.rpartition("/")[2].partition("[")[0]
                count, most = largest.get(test, (0, 0.0))
                largest[test] = count + 1, max(most, value)
    if largest:
        terminalreporter.section(f"several processes against one: {_FIGURE}")
    for test, (count, most) in largest.items():
        terminalreporter.write_line(f"{test}: {most:.1e} over {count} values and gradients")
