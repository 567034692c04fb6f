"""The English text of each flag, for the report and for exports."""

from wbctool.types.differential import Flag

# On every page and in every export: a measurement showed that some of these cells are counted, as other cells.
NOT_EXCLUDED = (
    "Blasts and atypical lymphocytes have no class of their own: some are counted as other classes, so neither can be "
    "excluded."
)
_UNFAMILIAR = (
    "This slide is unlike those of every laboratory that the models know, so a cell is counted only if both networks "
    "agree on it with high confidence, or a reader has named it. "
)
_TEACH = (
    "To teach the models this laboratory's cells, run: wbctool label, then wbctool adapt. To test them: wbctool verify"
)
# What each flag means, and what to do about it.
FLAG_TEXTS = {
    Flag.UNFAMILIAR: (
        f"{_UNFAMILIAR}Those in review are the difficult ones: without them the percentages are biased. Classify the "
        f"cells in review. {_TEACH}"
    ),
    Flag.NO_WBC: (
        "No white cells were found. Check that the images show a stained smear in focus at high magnification."
    ),
    Flag.LOW_COUNT: "Too few cells were counted to mark any value as high or low. Add fields and run again.",
    Flag.LIMITED_COUNT: (
        "{counted} cells were counted; a reference differential needs {needed}. Add fields and run again."
    ),
    Flag.HIGH_REVIEW_SHARE: (
        "Many cells are in review, so the percentages may still change. Classify those cells first."
    ),
    Flag.OUT_OF_DOMAIN: (
        "Many cells are unlike those the model was trained on. The stain, the camera or the cell type may differ. "
        "Check every class by eye. To test whether the models suit this laboratory, run: wbctool verify"
    ),
    Flag.POSSIBLE_BLASTS: "Some cells may be blasts. A morphologist must look at each of them; see To review.",
    Flag.IMMATURE_GRANULOCYTES: "Immature granulocytes were counted. Check each one, and look for blasts.",
    Flag.NRBC: "Nucleated red cells were found. Check each one.",
    Flag.BLURRED_FIELDS: (
        "Some fields are blurred; see Fields to check. Check their cells or photograph the fields again."
    ),
    Flag.CROWDED_FIELDS: (
        "Some fields are crowded; see Fields to check. Photograph a thinner part of the smear instead."
    ),
    Flag.FAILED_FIELDS: (
        "Some fields could not be read or analyzed, so their cells are missing; see Failures. Repair or replace these "
        "images and run again."
    ),
    Flag.DUPLICATE_FIELDS: (
        "Some fields show the same cells, which may be counted more than once; see Fields to check. Remove the "
        "duplicates and run again."
    ),
    Flag.OVERLAPPING_FIELDS: (
        "Some fields overlap, so they show the same cells; see Fields to check. Each of these cells was counted once."
    ),
}
# The same without any cell in review.
UNFAMILIAR_WITHOUT_REVIEW = f"{_UNFAMILIAR}No value is marked as high or low. {_TEACH}"
# The same for a whole-slide scan, where it differs: no field can be added or photographed again.
SCAN_FLAG_TEXTS = {
    Flag.LOW_COUNT: "Too few cells were counted to mark any value as high or low. {remedy}",
    Flag.LIMITED_COUNT: "{counted} cells were counted; a reference differential needs {needed}. {remedy}",
    Flag.BLURRED_FIELDS: "Some zones are blurred; see Fields to check. Check their cells or scan the slide again.",
    Flag.CROWDED_FIELDS: "Some zones are crowded; see Fields to check. Scan a thinner part of the smear instead.",
    Flag.FAILED_FIELDS: (
        "Some zones could not be read or analyzed, so their cells are missing; see Failures. Copy the file again, or "
        "scan the slide again, and run again."
    ),
}
ZONES_LEFT = "Not all zones of the scan were looked at: run again with --cells N for more cells, or --cells all."
NO_ZONES_LEFT = "All zones of the scan that are worth it were looked at: scan more of the smear, or another smear."
# The flags in exports: without instructions, because readers of an export cannot see the page or run the tool.
EXPORTED_FLAG_TEXTS = {
    Flag.UNFAMILIAR: (
        "The slide is unlike those of every laboratory that the models know; a cell is counted only if the networks "
        "are sure of it or a reader has named it. While cells are in review, the percentages are biased."
    ),
    Flag.NO_WBC: "No white cells were found.",
    Flag.LOW_COUNT: "Too few cells were counted to mark any value as high or low.",
    Flag.LIMITED_COUNT: "Fewer cells were counted than a reference differential needs.",
    Flag.HIGH_REVIEW_SHARE: "Many cells are in review, so the percentages may still change.",
    Flag.OUT_OF_DOMAIN: "Many cells are unlike those the model was trained on.",
    Flag.POSSIBLE_BLASTS: "Some cells may be blasts; a morphologist must look at them.",
    Flag.IMMATURE_GRANULOCYTES: "Immature granulocytes were counted.",
    Flag.NRBC: "Nucleated red cells were found.",
    Flag.BLURRED_FIELDS: "Some fields are blurred.",
    Flag.CROWDED_FIELDS: "Some fields are crowded.",
    Flag.FAILED_FIELDS: "Some fields could not be read or analyzed; their cells are missing.",
    Flag.DUPLICATE_FIELDS: "Some fields show the same cells, which may be counted more than once.",
    Flag.OVERLAPPING_FIELDS: "Some fields overlap; the cells that two of them show were counted once.",
}
# The flags about the blood, not about the count.
FINDING_FLAGS = frozenset({Flag.POSSIBLE_BLASTS, Flag.IMMATURE_GRANULOCYTES, Flag.NRBC})
