"""The gate as a test of pytest."""

from model import WEIGHTS

from scotoma import load_model
from scotoma.testing import robust


@robust(threat="linf:0.1", at_least=0.6, data="digits", images=200)
def test_the_network_withstands_small_changes():
    return load_model(str(WEIGHTS))
