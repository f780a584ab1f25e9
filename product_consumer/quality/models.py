"""The results of the quality checks. Frozen, without I/O."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """Something odd about one order or product. Advice: it changes, blocks and drops nothing."""

    subject: Literal["order", "product"]
    subject_id: str
    code: str
    reason: str
    """Short, for a person; without personal data."""
    source: Literal["rule", "language_model"]
    at: datetime
