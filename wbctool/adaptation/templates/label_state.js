// What the reader has named. The browser keeps it after every change, for each page and each reader apart.
const State = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const READER_KEY = "wbctool.label.reader";
  const REVOKE_AFTER_MS = 60_000; // the browser may ask where to save the file before it reads it
  const keyOf = (reader) => `wbctool.label.${data.labels.page}.${reader}`;
  let reader = "", isKept = true;
  let named = {}; // by the cell's position from 0: { label, time, answer_shown }
  let answersShown = {}; // by position: true if the tool's answer was shown
  const undoStack = []; // { position, before } for each naming since the page was opened

  function stored(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      isKept = false; // a browser may forbid it to a file
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(keyOf(reader), JSON.stringify({ named, answersShown }));
      localStorage.setItem(READER_KEY, reader);
      isKept = true;
    } catch {
      isKept = false;
    }
  }

  function restore() {
    let kept = {};
    try {
      kept = JSON.parse(stored(keyOf(reader))) || {};
    } catch { /* what is kept is not ours */ }
    named = kept.named || {};
    answersShown = kept.answersShown || {};
    undoStack.length = 0; // its steps led to what was named before
  }

  function begin(newReader) {
    reader = newReader;
    restore();
    keep();
  }

  const lastReader = () => stored(READER_KEY) || "";
  const hasBegun = (other) => Boolean(other) && stored(keyOf(other)) !== null;
  const isNamed = (position) => position in named;
  const nNamed = () => data.cells.filter((_, position) => isNamed(position)).length;
  const labelOf = (position) => named[position]?.label;

  function name(position, label) {
    undoStack.push({ position, before: named[position] });
    named[position] = { label, time: new Date().toISOString(), answer_shown: Boolean(answersShown[position]) };
    keep();
  }

  // Takes the last naming back and returns the cell's position; undefined if there is none.
  function undo() {
    const step = undoStack.pop();
    if (!step) return undefined;
    if (step.before) named[step.position] = step.before;
    else delete named[step.position];
    keep();
    return step.position;
  }

  function noteAnswerShown(position) {
    answersShown[position] = true;
    keep();
  }

  // The next cell that is not named, from a position on and then from the first; undefined if all are named.
  function nextUnnamed(from) {
    const positions = data.cells.map((_, position) => position);
    return [...positions.slice(from), ...positions.slice(0, from)].find((position) => !isNamed(position));
  }

  // The content of the file, which wbctool.adaptation.labels_file reads.
  function content() {
    const { schema, ...page } = data.labels;
    const cells = data.cells.map(({ entry }, position) => ({ ...entry, ...named[position] }));
    return { schema, reader, created: new Date().toISOString(), ...page, cells: cells.filter((_, i) => isNamed(i)) };
  }

  // Saves the file and returns its name. With the time in it, the browser names no second file "… (1)".
  function save() {
    const labels = content(), file = `${data.file_stem}-${labels.created.replaceAll(":", "")}.json`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(labels, null, 1) + "\n"], { type: "application/json" }));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER_MS);
    return file;
  }

  // Follows the same page in another tab, and asks before names are lost if the browser keeps nothing.
  function start(onChange) {
    window.addEventListener("storage", (event) => {
      if (!reader || event.key !== keyOf(reader)) return;
      restore();
      onChange();
    });
    window.addEventListener("beforeunload", (event) => {
      if (!isKept && nNamed()) event.preventDefault(); // after saving too: no page learns whether a download was kept
    });
  }

  return {
    data, texts: data.texts, begin, lastReader, hasBegun, isNamed, nNamed, labelOf, name, undo, noteAnswerShown,
    nextUnnamed, save, start, reader: () => reader, isKept: () => isKept, canUndo: () => undoStack.length > 0,
  };
})();
