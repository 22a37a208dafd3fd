"""Is a changed or generated image still a valid one? Independent networks judge it.

>>> from scotoma.validity import ARCHITECTURES
>>> len(ARCHITECTURES)
3
"""

from __future__ import annotations

from scotoma.validity.judges import ARCHITECTURES as ARCHITECTURES
from scotoma.validity.oracle import Validity as Validity
from scotoma.validity.oracle import ValidityOracle as ValidityOracle
from scotoma.validity.oracle import oracle_for as oracle_for
