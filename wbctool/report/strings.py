"""The English text of the reports, except the flags. Placeholders are filled with ``str.format``."""

from __future__ import annotations

from wbctool.labels import CellClass
from wbctool.report.flag_texts import NOT_EXCLUDED
from wbctool.text import replace_underscores

LANGUAGE = "en"

TO_INDEX = "\u2190 All slides"

# The banner.
SEVERITIES = {
    "failed": "Not usable",
    "check": "Check this slide",
    "clear": "No warnings",
    "reviewed": "Reviewed",
    "waiting": "Waiting",
}
REVIEWED_SIGN = "\u2713"
SEVERITY_SIGNS = {
    "failed": "\u2715",
    "check": "\u25b2",
    "clear": "\u25cf",
    "reviewed": REVIEWED_SIGN,
    "waiting": "\u25cb",
}
REVIEWED_BY = "Reviewed by {readers}"
NOT_REVIEWED = "Not reviewed"
VERDICT_FAILED = "Failed: no field of this slide could be analyzed."
VERDICT_NO_WBC = "No white cells were found{failed_fields}."
VERDICT_ALL_IN_REVIEW = "No cell was counted{failed_fields}; {review} in review."
VERDICT_LOW_COUNT = "Too few cells for a differential: {counted} counted{failed_fields}{in_review}."
VERDICT_UNFAMILIAR = (
    "Unfamiliar slide, not a differential yet: {counted} cells were sure enough to count{failed_fields}{in_review}."
)
VERDICT_UNFAMILIAR_REVIEWED = (
    "Unfamiliar slide{not_yet}: {counted} counted, {named} of them named by a reader{failed_fields}{in_review}."
)
NOT_YET = ", not a differential yet"
VERDICT = "Differential of {counted} counted cells{failed_fields}{in_review}."
VERDICT_FINDINGS = {
    "possible_blasts": "Possible blasts: {n}",
    "immature_granulocytes": "Immature granulocytes: {n}",
    "nrbc": "Nucleated red cells: {n}",
}
VERDICT_FAILED_FIELDS = ", without {failed} of {fields} fields"
VERDICT_REVIEW = "; {review} more in review"
NOT_MODELED = f"{NOT_EXCLUDED} Research use only: no diagnosis without a qualified reader."
COUNTED, IN_REVIEW, NOT_WBC, FIELDS_READ = "counted", "in review", "not white cells", "fields read"
FINDINGS_HEADING, LIMITS_HEADING = "Findings", "Limits of this count"
OUT_OF_REFERENCE_RANGE = "{label} {flag}: {percent} %, reference {low:g} to {high:g} %."
OUT_OF_ABSOLUTE_RANGE = "{label} {flag}: {value:.2f} × 10⁹/L, reference {low:g} to {high:g}."
OF_TOTAL = "{n} of {total}"

# The differential.
DIFFERENTIAL = "Differential"
TABLE_REGION = "table of the differential"
CLASS_HEADING = "class"
TABLE_HEADINGS = {"n": "n", "percent": "percent", "ci": "95 % interval", "review-range": "range after review"}
REFERENCE = "reference"
AXIS = "0 to 100 %"
NOT_ASSESSED = "not assessed: the model does not know this class"
CHART_ALT = (
    "{percent} percent; 95 % interval {ci_low} to {ci_high}; "
    "{review_low} to {review_high} depending on the cells in review"
)
NOTHING_COUNTED = "nothing counted"
LEGEND = {
    "percent": "percent",
    "ci": "95 % interval",
    "review_range": "lowest and highest value, if none or all of the cells in review were this class",
}
NRBC = "NRBC per 100 white cells"
REPEATED_NOTE = "Left out because overlapping fields show the same cells: {cells}."
COUNTS_NOTE = (
    "Cells found: {cells} ({counted} counted, {review} in review, {not_wbc} not white cells). "
    "Fields: {fields}. Percentages refer to the counted cells. The intervals are exact binomial "
    "(Clopper\u2013Pearson). They cover sampling error only, not errors of detection or classification."
)
SUBTYPE, UNNAMED_SUBTYPE = "of which {subtype}", "of which undetermined"
SUBTYPE_OF_CELL = "{subtype} (research)"
SUBTYPES_NOTE = (
    "The rows \u201cof which\u201d come from the second network alone, in percent of all counted cells. Bands and "
    "segmented neutrophils are poorly told apart even by human examiners, and neighboring stages of immature "
    "granulocytes too: for research, not for reporting."
)
REFERENCE_SOURCE = "Reference ranges: {source}."

# Absolute counts.
ABSOLUTE = "Absolute counts"
ABSOLUTE_HEADINGS = ("class", "10⁹/L", "95 % interval")
ABSOLUTE_NOTE = "Percentage × the analyzer's WBC of {wbc} × 10⁹/L. The intervals are those of the percentages."
ABSOLUTE_CORRECTED = (
    "Corrected to {wbc} × 10⁹/L for nucleated red cells: WBC × 100 / (100 + NRBC per 100 WBC). This is correct if the "
    "analyzer counts nucleated red cells as white cells."
)

# Labels of the entries of slides.csv.
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
    "counted_elsewhere": "overlaps {field}: {cells} of both counted there",
    "blurred": "blurred: cell edges are {value:.2f} µm wide",
    "crowded": "crowded: cells cover {value:.0f} % of the field{limit}",
    "stain_out_of_range": (
        "colors unlike those of the laboratories that the models know: \u0394E {value:.1f}{limit}; check stain and "
        "white balance"
    ),
    "scale_mismatch": (
        "um_per_px must be wrong, as it makes red cells {red_cell_um:.1f} µm wide; correct it and run again. "
        "Focus was not judged."
    ),
}
SHARED_FIELD_REMARKS = {
    "blurred": "{n} blurred fields (cell edges {low:.2f} to {high:.2f} µm wide)",
    "crowded": "{n} crowded fields (cells cover {low:.0f} to {high:.0f} % of the field{limit})",
    "stain_out_of_range": (
        "{n} fields with unusual colors (\u0394E {low:.1f} to {high:.1f}{limit}; check stain and white balance)"
    ),
}
FIELD_LIMITS = {"crowded": ", limit {:.0f} %", "stain_out_of_range": ", limit {:g}"}

# The cells.
TO_REVIEW = "To review"
TO_REVIEW_NOTE = (
    "These cells are not counted. Possible blasts and cells unlike the training cells come first, the others by their "
    "most probable class. Each cell has its probability; in each group the least certain come first."
)
PROPOSED = "Probably {category}"
DOUBTED_NOTE = "Do not rely on the classes that these cells are shown with."
NOT_SHOWN = "{missing} more are not shown; these {shown} are the least certain."
REVIEW_NOT_SHOWN = (
    "{missing} more are not shown and cannot be classified on this page; these {shown} are the least certain. To "
    "review all, {remedy} and run again."
)
DIVIDE_SLIDE = "divide the images of this slide between several folders"
TAKE_FEWER_CELLS = "take --cells N for fewer cells"
GALLERY = {
    "options": "Cells shown",
    "min_confidence": "Confidence from",
    "max_confidence": "Confidence up to",
    "cell_size": "Size",
    "shown": "{shown} of {total} cells shown",
    "shown_of": "{shown} of {total} shown",
    "select_group": "Select all",
    "accept_group": "Accept {n} as {category}",
}
OMITTED = "To keep this page small, some images are left out. The numbers and cells.csv include all cells."
CELLS_OMITTED = "Cells not shown: {n}."
SUPER_RESOLVED_OMITTED = "Cells shown without their super-resolved image: {n}."
FIELDS_OMITTED = "Fields not shown, although some of their cells are: {n}."
IMAGES_ELSEWHERE = "An earlier version of wbctool processed this slide: its images are in original-report.html."
NATIVE_ALT = "Cell {cell} of {field}"
SUPER_RESOLVED_ALT = "the same, super-resolved"
SECOND_CLASS = "then {label} {probability:.2f}"
DIAMETER = "{diameter_um:.1f} µm"
CELL_LOCATION = "{field}, cell {cell}"
RECLASSIFIED = "reader: {category}; tool: {original}"
REASONS = {
    "possible_blast": "possible blast",
    "out_of_distribution": "unlike the training cells",
    "unfamiliar_slide": "unfamiliar slide",
    "disagreement": "the two networks differ",
    "low_confidence": "low confidence",
    "artefact": "artifact",
}
DUPLICATES_COUNTED_ONCE = "Some fields show the same cells; see Fields to check. Each of these cells was counted once."
UNKNOWN_FAMILIARITY = "small slide: stricter rule"
SMALL_SLIDE = (
    "With {cells}, it cannot be judged whether this slide resembles the training laboratories, so only cells of high "
    "confidence are counted."
)
WRONGLY_SAVED = (
    "Many fields have wrong colors or pixels in disorder (see Failures), and the others were probably photographed or "
    "saved in the same way. So all cells are in review. Repair the images and run again."
)
FIELDS_HEADING = "Fields"
FIELDS_NOTE = "Show the fields of these cells, reduced in size. A number in a field is the number of the cell."
IMAGE_METADATA = "metadata of the images"
SCAN_HEADING = "Zones of the scan"
SCAN_SENTENCE = (
    "The scan was divided into {zones}. The cells of {looked_at} were looked for, those with the best monolayer first."
)
SCAN_SCALE = "A pixel has {um_per_px:.3g} µm by {source}; cells were looked at with {cells_um:.3g} µm a pixel."
SCAN_PASSED_OVER = "Passed over: {reasons}."
SCAN_NOT_NEEDED = "Not needed: {n}, because enough cells were counted."
FIELD_ALT = "Field {field}, cells outlined"

# Reviews, and how the page was made.
REVIEWS_HEADING = "Reviews"
REVIEW_LINE = "{reader}, {time}; cells moved: {moved}."
AUDIT_ENTRY = "SHA-256 of the entry in audit.jsonl"
PROVENANCE_HEADING = "How this report was made"
RESEARCH_USE = "Research use only."
SETTINGS_HEADING = "Settings"
SHA256 = "SHA-256"
CELLS_HASH = "cells.csv"

# The panel of the reader; the script uses these texts too.
PANEL = {
    "title": "Your review",
    "select_several": "Select several",
    "help_heading": "How to review",
    "help": "Select one or more cells, then press a key or a button to move them.",
    "help_no_button": (
        "A blast, or any cell without a button: leave it in review and comment on it. Smudge or stain: x."
    ),
    "native": "as photographed",
    "super_resolved": "super-resolved",
    "show_cam": "Show which regions led to the class",
    "cam": "Grad-CAM",
    "cam_alt": "Grad-CAM heat map: the regions that led to the class",
    "cam_note": "(Grad-CAM; a check, not evidence)",
    "field_alt": "The field of {cell}",
    "field_omitted": "The field of this cell is not shown.",
    "selected": "{n} cells selected. The last one:",
    "move_to": "Move the selected cells to",
    "accept": "their proposed classes",
    "no_proposal": "Only cells in review have a proposed class",
    "doubted_left": "Cells left where they are, because their classes are not to be relied on: {n}",
    "unknown_class": "The model does not know this class. Leave the cell in review and add a comment",
    "cell_comment": "Comment on the selected cell",
    "cells_comment": "Comment on the {n} selected cells",
    "comments_differ": "their comments differ",
    "slide_comment": "Comment on the slide",
    "initials": "Initials",
    "undo": "Undo",
    "save": "Save review",
    "need_initials": "Not saved. Enter your initials, then save again",
    "saved": (
        "{moved}. Saved to your downloads as {file}. It takes effect once the laboratory runs: "
        "wbctool review apply OUT {argument}, where OUT is the table of all slides"
    ),
    "one_moved": "1 cell moved",
    "n_moved": "{n} cells moved",
    "unsaved": "not saved yet",
    "unsaved_since": "changes since then not saved yet",
    "saved_before": "Saved by {reader} {time}, not yet applied",
    "restored": "Your review goes on where you left it",
    "restored_of": "The review of {reader} goes on where it was left",
    "changes": "cells moved",
    "moved_to": "{cell} moved to {category}",
    "moved_cells_to": "{n} cells moved to {categories}",
    "undone": "Undone: {n} cells moved back",
    "undone_one": "Undone: {cell} moved back to {category}",
    "was": "was {value}",
    "changes_note": (
        "You have changed this differential. Flags, high and low marks and absolute counts are recalculated when the "
        "review is applied."
    ),
}

# The keys of the gallery.
KEYS = (
    ("arrows", "select the next cell"),
    ("Shift", "with arrows or click: select up to there"),
    ("Ctrl", "with click: select one more; with arrows and Space too"),
    ("Ctrl A", "select all of the group"),
    (f"1\u2013{len(CellClass)} r x", "move the selected cells"),
    ("a", "move each to its proposed class, if it can be relied on"),
    ("c", "comment on the selected cells; Enter or Esc leads back"),
    ("Ctrl Z", "undo the last move, of all its cells"),
)


def show_percent(value: float | None) -> str:
    """Return a percentage as the pages show it, with one decimal; None gives an empty text."""
    return "" if value is None else f"{value:.1f}"


def humanize(name: str) -> str:
    """Return a class, a category or a reason as words."""
    return REASONS.get(name, replace_underscores(name))
