// What the page shows: the start, one cell with its field, or the end.
const View = (() => {
  const { data, texts } = State;
  const byId = (id) => document.getElementById(id);
  const answers = [...document.querySelectorAll(".answer")];
  const n = data.cells.length;
  let shownPosition = null;

  // Fills the placeholders of a Python format string.
  const format = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

  function showSection(shown) {
    for (const id of ["start", "naming", "done"]) byId(id).hidden = id !== shown;
    byId("progress").hidden = byId("reader-and-save").hidden = shown === "start";
    byId("title").classList.toggle("hidden", shown !== "start");
  }

  function showStart() {
    showSection("start");
    showStatus("");
    byId("name").value = State.reader() || State.lastReader();
    byId("name").focus();
    byId("name").select();
  }

  function showCell(position, isAnswerShown) {
    const cell = data.cells[position], label = State.labelOf(position);
    const isOther = shownPosition !== position;
    shownPosition = position;
    showSection("naming");
    showProgress();
    const values = { position: position + 1, all: n, name: data.names[label] };
    byId("position").textContent = format(label ? texts.position_named : texts.position, values);
    byId("cell-image").src = cell.picture;
    byId("cell-image").alt = format(texts.position, values);
    showField(cell);
    for (const button of answers) button.setAttribute("aria-pressed", String(button.dataset.label === label));
    byId("undo").disabled = !State.canUndo();
    byId("answer").hidden = !isAnswerShown;
    byId("answer-note").hidden = isAnswerShown || Boolean(label);
    byId("answer").textContent = isAnswerShown ? cell.answer : "";
    byId("toggle-answer").setAttribute("aria-expanded", String(isAnswerShown));
    byId("toggle-answer").querySelector("span").textContent = isAnswerShown ? texts.hide_answer : texts.show_answer;
    if (isOther) byId("position").scrollIntoView({ block: "nearest" }); // on a phone the answers reach below the window
  }

  // The field with the box of the cell, in native pixels of the field.
  function showField({ entry, field, region }) {
    const picture = data.fields[field];
    byId("field").hidden = !picture;
    byId("no-field").hidden = Boolean(picture);
    if (!picture) return;
    byId("field-image").src = picture;
    byId("field-image").width = region[2];
    byId("field-image").height = region[3];
    byId("field-box").setAttribute("viewBox", region.join(" "));
    byId("field-box").replaceChildren(...["halo", "box"].map((kind) => rectangle(kind, entry.box)));
  }

  function rectangle(kind, box) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ class: kind, ...box })) element.setAttribute(key, value);
    return element;
  }

  function showDone() {
    const wasShown = !byId("done").hidden;
    showSection("done");
    showProgress();
    if (!wasShown) byId("save-at-end").focus();
  }

  function showProgress() {
    const named = State.nNamed();
    byId("progress-bar").value = named;
    byId("progress-text").textContent = format(texts.progress, { named, all: n, left: n - named });
    byId("reader").textContent = format(texts.reader, { reader: State.reader() });
  }

  function showStatus(text) {
    byId("status").textContent = State.isKept() ? text : `${text}${text && ". "}${texts.not_kept}`;
  }

  return { answers, byId, format, showStart, showCell, showDone, showStatus, isNaming: () => !byId("naming").hidden };
})();
