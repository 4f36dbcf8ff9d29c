"""What the papers claim, and what our records say to it: results/REPRODUCIBILITY.md.

CLAIMS is the one list, put together in `page` from a file per system. A claim's verdict is computed from the records
by a small function, so nobody types one; `python -m terminator tables` writes the page afresh.
"""

from terminator.claims.base import HOLDS, NOT, NOT_RUN, PARTLY, SEEDS, UNSETTLED, WORDS, Claim, Verdict
from terminator.claims.page import CLAIMS, claims_table, evidence, page, write_page

__all__ = ["CLAIMS", "HOLDS", "NOT", "NOT_RUN", "PARTLY", "SEEDS", "UNSETTLED", "WORDS", "Claim", "Verdict",
           "claims_table", "evidence", "page", "write_page"]
