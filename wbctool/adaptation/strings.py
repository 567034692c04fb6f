"""All English text of the label page. Placeholders are filled with ``str.format``, or by the page's script."""

from wbctool.adaptation.labels_file import NoClass
from wbctool.types.cells import Outcome, Reason

TITLE = "Name the cells"
NAMES = {
    NoClass.NONE_OF_THESE: "none of these",
    NoClass.CANNOT_TELL: "cannot tell",
}
OUTCOMES = {Outcome.COUNTED: "counted", Outcome.NEEDS_REVIEW: "in review", Outcome.NOT_WBC: "not counted"}
REASONS = {
    Reason.DISAGREEMENT: "its two networks differ",  # on this page the reader is a person
    Reason.UNFAMILIAR_SLIDE: "the slide is not known to be familiar",
}
ANSWER = "The tool: {likely}; {outcome}{reason}. Slide {slide}, {location}."

NEEDS_SCRIPT = "This page needs JavaScript."
INTRODUCTION = (
    "{n} cells, one at a time. Press the key of what you see, and the next cell comes.",
    "Name what you see, as you would at the microscope. If you cannot tell, say so: that is an answer too.",
    "Whatever you name is kept in this browser, so you can close the page and go on later. At the end, save the labels "
    "as a file.",
)
READER = "Your name or initials"
BEGIN = "Begin"
CHANGE_READER = "Change reader"

CELL_HEADING, FIELD_HEADING, ANSWERS_HEADING = "The cell", "Its place in the field", "What is it?"
FIELD_ALT = "The cell's place in the field, outlined"
NO_FIELD = "There is no picture of its field."
CLASSES, KINDS, UNSURE = "Classes", "No class fits", "No answer"
SHOW_ANSWER = "Show the tool's answer"
HIDE_ANSWER = "Hide the tool's answer"
ANSWER_NOTE = "Name the cell first: the answer would sway you."
PREVIOUS, NEXT, UNDO, SAVE = "Previous", "Next", "Undo", "Save labels"
RESEARCH_USE = "Research use only. Nothing leaves this computer."

DONE_HEADING = "All cells are named"
DONE = "Thank you. Save the labels and give the file to your laboratory; wbctool adapt learns from it."
LOOK_AGAIN = "Look at the cells again"

# The texts of the script.
SCRIPT = {
    "progress": "{named} of {all} named, {left} to go",
    "position": "Cell {position} of {all}",
    "position_named": "Cell {position} of {all}: {name}",
    "not_named": "not named",
    "named": "Cell {position}: {name}",
    "undone": "Undone: cell {position} is {name}",
    "nothing_to_undo": "There is nothing to undo",
    "reader": "Reader: {reader}",
    "saved": "Saved to your downloads as {file}",
    "saved_some": "Saved to your downloads as {file}, with {named} of {all} cells",
    "nothing_to_save": "No cell is named yet",
    "not_kept": "This browser keeps nothing for this page: save the labels before you close it",
    "show_answer": SHOW_ANSWER,
    "hide_answer": HIDE_ANSWER,
}
