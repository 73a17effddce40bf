"""The evidence of a delivery: which records were rejected and why, what became of each, and the counts."""

from __future__ import annotations

from airflow_provider_lago.delivery.report.printable import printable
from airflow_provider_lago.delivery.report.report import (
    UNFORWARDED,
    EvidenceError,
    FolderReport,
    NoReport,
    Report,
    ReportInUseError,
    write_preview,
)

__all__ = [
    "UNFORWARDED",
    "EvidenceError",
    "FolderReport",
    "NoReport",
    "Report",
    "ReportInUseError",
    "printable",
    "write_preview",
]
