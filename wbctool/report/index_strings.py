"""The English texts of the index of a run; the states of slides are in :mod:`wbctool.report.strings`."""

from __future__ import annotations

TITLE = "Slides"
NOTE = (
    "Click a column heading to sort. Click a slide to open its report. A range of percentages is that of an unfamiliar "
    "slide: the lowest and the highest value that its cells in review leave open."
)
PATIENTS = "Sort by patient to group the slides of each patient."
SUMMARY = {
    "check": "left to review",
    "reviewed": "reviewed",
    "clear": "without warnings",
    "failed": "failed",
    "waiting": "waiting",
}
PARTIAL = "partly analyzed"
VERDICTS = {
    "possible_blasts": "Possible blasts",
    "unfamiliar": "Unfamiliar slide{not_yet}",
    "no_wbc": "No white cells were found",
    "low_count": "Too few cells for a differential",
}
REVIEW_ENDED = "review ended {readers}"
NOTICES = "Notices"
HEADINGS = {
    "severity": "result",
    "readers": "reviewed by",
    "slide": "slide",
    "patient": "patient",
    "counted": "counted",
    "review": "in review",
    "nrbc": "NRBC/100",
    "fields": "fields",
    "fields_failed": "failed",
}
TITLES = {"nrbc": "nucleated red cells per 100 white cells", "fields_failed": "fields that failed"}
SHORT_CLASSES = {"immature_granulocyte": "IG"}
OUT_OF_RANGE = {"percent": "{flag}", "absolute": "absolute {flag}"}
FAILED = "Failures: {n}"
TABLE_REGION = "table of the slides"
NO_REPORT = "no report"
NOT_ASSESSED = "not assessed"
