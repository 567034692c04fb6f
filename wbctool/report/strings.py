"""Every English text of the pages, so that a translation is one file. Placeholders are those of ``str.format``."""

LANGUAGE = "en"

# What each flag means, and what to do about it.
FLAGS = {
    "no_wbc": "No white cells were found. Check that the images show a stained smear, sharp and at high magnification.",
    "low_count": "Too few cells were counted to report any value as high or low. Add fields and run again.",
    "limited_count": "Fewer cells were counted than for a reference differential. For one, add fields and run again.",
    "high_review_share": "Many cells await review; the percentages may shift considerably. Classify those cells first.",
    "out_of_domain": (
        "Many cells are unlike anything the model was trained on: another stain, camera or cell type. Check every "
        "class by eye; `wbctool verify` tests whether the models fit this laboratory."
    ),
    "immature_granulocytes": "Immature granulocytes were counted. Inspect each one, and look for blasts.",
    "nrbc": "Nucleated red cells were found. Inspect each one.",
    "blurred_fields": "Some fields, listed below, are blurred. Check their cells by eye, or photograph them again.",
    "crowded_fields": "Some fields, listed below, are crowded. Thinner parts of the smear show the cells better.",
    "failed_fields": (
        "Some fields, listed below, could not be read or analysed, so their cells are missing. Repair or replace these "
        "images and run again."
    ),
    "duplicate_fields": (
        "Some fields, listed below, show the same cells, which were counted more than once. Remove the duplicates and "
        "run again."
    ),
}
# The same for exports, which are read without the page and by others than those who run the tool.
EXPORTED_FLAGS = {
    "no_wbc": "No white cells were found.",
    "low_count": "Too few cells were counted to report any value as high or low.",
    "limited_count": "Fewer cells were counted than for a reference differential.",
    "high_review_share": "Many cells await review; the percentages may shift considerably.",
    "out_of_domain": "Many cells are unlike anything the model was trained on.",
    "immature_granulocytes": "Immature granulocytes were counted.",
    "nrbc": "Nucleated red cells were found.",
    "blurred_fields": "Some fields are blurred.",
    "crowded_fields": "Some fields are crowded.",
    "failed_fields": "Some fields could not be read or analysed; their cells are missing.",
    "duplicate_fields": "Some fields show the same cells, which were counted more than once.",
}
FINDING_FLAGS = frozenset({"immature_granulocytes", "nrbc"})  # flags that speak of the blood, not of the count

# The first lines: how the slide stands.
SEVERITIES = {"failed": "Not usable", "check": "Look closer", "clear": "No flags"}
SEVERITY_SIGNS = {"failed": "\u2715", "check": "\u25b2", "clear": "\u25cf"}
REVIEWED_SIGN = "\u2713"
REVIEWED_BY = "Reviewed by {readers}"
NOT_REVIEWED = "Not reviewed"
SUMMARY_FAILED = "Failed: no field of this slide could be analysed."
SUMMARY_NO_WBC = "No white cells were found{without}."
SUMMARY_ALL_IN_REVIEW = "No cells could be counted{without}; {review} in review."
SUMMARY_LOW_COUNT = "Too few cells for a differential: {counted} counted{without}{review}."
SUMMARY = "Differential of {counted} counted cells{without}{review}."
SUMMARY_FAILED_FIELDS = ", without {failed} of {fields} fields"
SUMMARY_REVIEW = "; {review} more in review"
NOT_MODELED = (
    "The model does not know blasts or atypical lymphocytes: they are not modelled and cannot be excluded. "
    "Research use only: no diagnosis without a qualified reader."
)
COUNTED, IN_REVIEW, NOT_WBC, FIELDS_READ = "counted", "in review", "not white cells", "fields read"
FINDINGS_HEADING, LIMITS_HEADING = "Findings", "Limits of this count"
OUT_OF_REFERENCE_RANGE = "{label} {flag}: {percent} %, reference {low:g} to {high:g} %."
OUT_OF_ABSOLUTE_RANGE = "{label} {flag}: {value:.2f} × 10⁹/L, reference {low:g} to {high:g}."
OF_TOTAL = "{n} of {total}"

# The differential.
DIFFERENTIAL = "Differential"
TABLE_REGION = "table of the differential"
TABLE_HEADINGS = ("class", "n", "percent", "95 % interval", "if none / all of review")
REFERENCE = "reference"
AXIS = "0 to 100 %"
NOT_ASSESSED = "not assessed: the model does not know this class"
CHART_ALT = "{percent} percent; 95 % interval {low} to {high}; with the review cells {none} to {all}"
NOTHING_COUNTED = "nothing counted"
LEGEND = {"bar": "percent", "ci": "95 % interval", "span": "if none or all of the review cells were this class"}
LEGEND_REFERENCE = "reference range"
NRBC = "NRBC per 100 white cells"
COUNTS_NOTE = (
    "Cells found: {cells}, of which {counted} counted, {review} in review, {not_wbc} not white cells. "
    "Fields: {fields}. Percentages are of the counted cells. The intervals are exact binomial "
    "(Clopper\u2013Pearson); they cover sampling alone, not errors of detection or classification."
)
REFERENCE_SOURCE = "Reference ranges: {source}."

# Absolute counts.
ABSOLUTE = "Absolute counts"
ABSOLUTE_HEADINGS = ("class", "10⁹/L", "95 % interval")
ABSOLUTE_NOTE = "Percentage × the analyser's WBC, {wbc} × 10⁹/L. The intervals are those of the percentages."
ABSOLUTE_CORRECTED = (
    "Corrected to {wbc} × 10⁹/L for nucleated red cells: WBC × 100 / (100 + NRBC per 100 WBC), which is correct for an "
    "analyser that counts them as white cells."
)

# What slides.csv says of the slide.
METADATA_LABELS = {
    "accession": "accession",
    "patient": "patient",
    "age": "age",
    "sex": "sex",
    "stain": "stain",
    "objective": "objective",
}

TOTAL = "{n} in all"
FAILURES_HEADING = "Failures"
QUALITY_HEADING = "Fields to check"
FIELD_REMARKS = {
    "duplicate_of": "shows the same cells as {field}",
    "blurred": "blurred: edges of {blur_um:.2f} µm",
    "crowded": "crowded: {coverage:.0f} % covered",
    "stain_out_of_range": "colors {stain_delta_e:.0f} (CIE76) away from those the detector was trained on",
    "scale_mismatch": "red cells measure {red_cell_um:.1f} µm by its um_per_px, which must be wrong; focus was not judged",
}

# The cells.
TO_REVIEW = "To review"
TO_REVIEW_NOTE = "Not counted. Shown with the most probable class and its probability, least certain first."
NOT_SHOWN = "{missing} more are not shown; these are the {shown} least certain."
OMITTED = "To keep this page small, some images are left out. The numbers and cells.csv include all cells."
CELLS_OMITTED = "Cells not shown: {n}."
SUPER_RESOLVED_OMITTED = "Cells shown without their super-resolved image: {n}."
FIELDS_OMITTED = "Fields not shown, with cells that are: {n}."
IMAGES_ELSEWHERE = "An earlier version of wbctool processed this slide: its images are in original-report.html."
NATIVE_ALT = "Cell {cell} of {field}"
SUPER_RESOLVED_ALT = "the same, super-resolved"
SECOND_CLASS = "then {label} {probability:.2f}"
CELL_LOCATION = "{field}, cell {cell}"
RECLASSIFIED = "reader: {place}; tool: {was}"
REASONS = {"low_confidence": "low confidence", "out_of_distribution": "unlike the training cells"}
FIELDS_HEADING = "Fields"
FIELDS_NOTE = "Every field with cells shown here, reduced. The numbers are those of the cells in the field."
FIELD_ALT = "Field {field}, cells outlined"

# Reviews, and how the page was made.
REVIEWS_HEADING = "Reviews"
REVIEW_LINE = "{reader}, {time}; cells moved: {moved}."
AUDIT_ENTRY = "Entry in audit.jsonl"
PROVENANCE_HEADING = "How this report was made"
RESEARCH_USE = "Research use only."
SHA256 = "SHA-256"
CELLS_HASH = "cells.csv"

# The reader's panel; the script has these too.
PANEL = {
    "title": "Reader",
    "help": "Select a cell (click, or Tab and the arrow keys), then press a key or a button below.",
    "native": "native pixels",
    "enhanced": "super-resolved",
    "attention": "where the class was seen",
    "attention_note": "Grad-CAM: a check, not evidence.",
    "field": "in its field",
    "move": "Move the cell to",
    "unknown_class": "the model does not know this class; leave the cell in review, with a comment",
    "cell_comment": "Comment on this cell",
    "slide_comment": "Comment on the slide",
    "initials": "Initials",
    "undo": "Undo",
    "save": "Save review",
    "need_initials": "Enter your initials first",
    "saved": "Saved; apply it with: wbctool review apply",
    "unsaved": "not saved yet",
    "changes": "cells moved",
    "moved_to": "{cell} moved to {place}",
    "was": "was {value}",
    "changed_note": (
        "Changed by you: flags, reference marks and absolute counts are recalculated when the review is applied."
    ),
    "read_as": RECLASSIFIED,
    "no_field": "this field is not shown",
}

# The index of a run.
INDEX_TITLE = "Slides"
INDEX_NOTE = "Click a column heading to sort. A slide's name opens its report."
INDEX_PATIENTS = "Sort by patient to group the slides of each patient."
INDEX_COUNTS = "{slides}: {counts}."
INDEX_REVIEWED = "{reviewed} reviewed."
INDEX_HEADINGS = {
    "slide": "slide",
    "patient": "patient",
    "status": "status",
    "readers": "reviewed by",
    "flags": "flags",
    "fields": "fields",
    "fields_failed": "failed",
    "counted": "counted",
    "review": "in review",
    "nrbc": "NRBC / 100",
}
INDEX_OUT_OF_RANGE = {"percent": "{flag}", "absolute": "absolute {flag}"}
INDEX_FAILED = "{n} failed"
TABLE_REGION_INDEX = "table of the slides"
INDEX_NO_REPORT = "no report"
INDEX_NOT_ASSESSED = "n/a"
STATUS_SIGNS = {"ok": "\u25cf", "partial": "\u25b2", "failed": "\u2715", "waiting": "\u25cb"}


def humanize(name: str) -> str:
    """A class, a flag or a reason as words."""
    return REASONS.get(name, name.replace("_", " "))
