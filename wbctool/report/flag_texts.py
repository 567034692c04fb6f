"""The English text of each flag, for the report and for exports."""

# On every page and in every export: a measurement showed that some of these cells are counted, as other cells.
NOT_EXCLUDED = (
    "Blasts and atypical lymphocytes have no class of their own: some are counted as other classes, so neither can be "
    "excluded."
)
# What each flag means, and what to do about it.
FLAG_TEXTS = {
    "unfamiliar": (
        "This slide is unlike those of every laboratory that the models know, so only the cells on which both networks "
        "agree with high confidence are counted. Those are the easy ones: the percentages are biased. Classify the "
        "cells in review. To teach the models this laboratory's cells, run: wbctool label, then wbctool adapt. To test "
        "them: wbctool verify"
    ),
    "no_wbc": "No white cells were found. Check that the images show a stained smear in focus at high magnification.",
    "low_count": "Too few cells were counted to mark any value as high or low. Add fields and run again.",
    "limited_count": "Fewer cells were counted than a reference differential needs. Add fields and run again.",
    "high_review_share": "Many cells are in review, so the percentages may still change. Classify those cells first.",
    "out_of_domain": (
        "Many cells are unlike those the model was trained on. The stain, the camera or the cell type may differ. "
        "Check every class by eye. To test whether the models suit this laboratory, run: wbctool verify"
    ),
    "possible_blasts": "Some cells may be blasts. A morphologist must look at each of them; see To review.",
    "immature_granulocytes": "Immature granulocytes were counted. Check each one, and look for blasts.",
    "nrbc": "Nucleated red cells were found. Check each one.",
    "blurred_fields": "Some fields are blurred; see Fields to check. Check their cells or photograph the fields again.",
    "crowded_fields": "Some fields are crowded; see Fields to check. Photograph a thinner part of the smear instead.",
    "failed_fields": (
        "Some fields could not be read or analyzed, so their cells are missing; see Failures. Repair or replace these "
        "images and run again."
    ),
    "duplicate_fields": (
        "Some fields show the same cells, which may be counted more than once; see Fields to check. Remove the "
        "duplicates and run again."
    ),
    "overlapping_fields": (
        "Some fields overlap, so they show the same cells; see Fields to check. Each of these cells was counted once."
    ),
}
# The same for a whole-slide scan, where it differs: no field can be added or photographed again.
SCAN_FLAG_TEXTS = {
    "low_count": "Too few cells were counted to mark any value as high or low. {remedy}",
    "limited_count": "Fewer cells were counted than a reference differential needs. {remedy}",
    "blurred_fields": "Some zones are blurred; see Fields to check. Check their cells or scan the slide again.",
    "crowded_fields": "Some zones are crowded; see Fields to check. Scan a thinner part of the smear instead.",
    "failed_fields": (
        "Some zones could not be read or analyzed, so their cells are missing; see Failures. Copy the file again, or "
        "scan the slide again, and run again."
    ),
}
ZONES_LEFT = "Not all zones of the scan were looked at: run again with --cells N for more cells, or --cells all."
NO_ZONES_LEFT = "All zones of the scan that are worth it were looked at: scan more of the smear, or another smear."
# The flags in exports: without instructions, because readers of an export cannot see the page or run the tool.
EXPORTED_FLAG_TEXTS = {
    "unfamiliar": (
        "The slide is unlike those of every laboratory that the models know; only the surest cells are counted, and "
        "the percentages are biased."
    ),
    "no_wbc": "No white cells were found.",
    "low_count": "Too few cells were counted to mark any value as high or low.",
    "limited_count": "Fewer cells were counted than a reference differential needs.",
    "high_review_share": "Many cells are in review, so the percentages may still change.",
    "out_of_domain": "Many cells are unlike those the model was trained on.",
    "possible_blasts": "Some cells may be blasts; a morphologist must look at them.",
    "immature_granulocytes": "Immature granulocytes were counted.",
    "nrbc": "Nucleated red cells were found.",
    "blurred_fields": "Some fields are blurred.",
    "crowded_fields": "Some fields are crowded.",
    "failed_fields": "Some fields could not be read or analyzed; their cells are missing.",
    "duplicate_fields": "Some fields show the same cells, which may be counted more than once.",
    "overlapping_fields": "Some fields overlap; the cells that two of them show were counted once.",
}
# The flags about the blood, not about the count.
FINDING_FLAGS = frozenset({"possible_blasts", "immature_granulocytes", "nrbc"})
