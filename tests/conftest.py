"""Options of the whole suite."""


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files of tests/data anew"
    )
    parser.addoption(
        "--e2e", action="store_true", help="run tests/e2e against the cluster of $KUBECONFIG"
    )
