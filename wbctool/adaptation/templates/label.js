// What the reader does with keys and buttons, and the start of the page.
(() => {
  const { data, texts } = State;
  const { byId, format } = View;
  const n = data.cells.length;
  const labelByKey = Object.fromEntries(View.answers.map((button) => [button.dataset.key, button.dataset.label]));
  let position = 0, isAnswerShown = false;

  function go(newPosition) {
    isAnswerShown = isAnswerShown && newPosition === position;
    position = newPosition;
    View.showCell(position, isAnswerShown);
  }

  // Shows the first cell that is not named from a position on, or the end.
  function goOn(from) {
    const next = State.nextUnnamed(from);
    if (next === undefined) View.showDone();
    else go(next);
  }

  function step(by) {
    if (View.isNaming()) go(Math.min(n - 1, Math.max(0, position + by)));
    else go(by < 0 ? n - 1 : 0);
    View.showStatus("");
  }

  function name(label) {
    if (!View.isNaming()) return;
    State.name(position, label);
    View.showStatus(format(texts.named, { position: position + 1, name: data.names[label] }));
    goOn(position + 1);
  }

  function undo() {
    const undone = State.undo();
    if (undone === undefined) return View.showStatus(texts.nothing_to_undo);
    const label = State.labelOf(undone);
    View.showStatus(format(texts.undone, { position: undone + 1, name: label ? data.names[label] : texts.not_named }));
    go(undone);
  }

  function toggleAnswer() {
    if (!View.isNaming()) return;
    isAnswerShown = !isAnswerShown;
    if (isAnswerShown) State.noteAnswerShown(position);
    View.showCell(position, isAnswerShown);
  }

  function save() {
    const named = State.nNamed();
    if (!named) return View.showStatus(texts.nothing_to_save);
    const file = State.save();
    View.showStatus(format(named < n ? texts.saved_some : texts.saved, { file, named, all: n }));
  }

  function begin(reader) {
    State.begin(reader);
    View.showStatus("");
    goOn(0);
  }

  // --- keyboard ------------------------------------------------------------------------------------------------------

  const actions = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), Backspace: undo, u: undo, t: toggleAnswer, "Control z": undo,
    "Control s": save,
  };

  function onKey(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isShifted = event.shiftKey && !/^\d$/.test(key); // French and Czech keyboards have the digits on Shift
    if (!byId("start").hidden || event.altKey || isShifted) return;
    const control = event.ctrlKey || event.metaKey, label = control ? undefined : labelByKey[key];
    const action = actions[control ? `Control ${key}` : key];
    if (!label && !action) return;
    event.preventDefault();
    if (event.repeat && !key.startsWith("Arrow")) return; // a key held down must not name the cells that follow
    if (label) name(label);
    else action();
  }

  for (const button of View.answers) button.addEventListener("click", () => name(button.dataset.label));
  const buttons = {
    previous: () => step(-1), next: () => step(1), undo, save, "save-at-end": save, "toggle-answer": toggleAnswer,
    "look-again": () => step(1), "change-reader": View.showStart,
  };
  for (const [id, action] of Object.entries(buttons)) byId(id).addEventListener("click", action);
  byId("start-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const reader = byId("name").value.trim();
    if (reader) begin(reader);
  });
  document.addEventListener("keydown", onKey);
  State.start(() => (View.isNaming() ? go(position) : goOn(0)));
  if (State.hasBegun(State.lastReader())) begin(State.lastReader()); // on another page the reader may be another
  else View.showStart();
})();
