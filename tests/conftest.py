"""Options of all suites."""


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=1, help="in the scenarios of failover: who talks with whom, and when")
