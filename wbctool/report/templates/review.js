// The reader's review: moving cells to other categories, undoing that, comments, and saving the review.
// Nothing is sent anywhere: the page's Content-Security-Policy forbids it.
const Review = (() => {
  const { data, texts, REVIEW, tileOf, ofTile, categoryName, isReclassified } = Cells;
  const { format } = Counts;
  const byId = (id) => document.getElementById(id);
  const originalCounts = Cells.count();
  const undoStack = []; // a list for each step, of { cell, category } as they were before
  let isSaved = true, lastSave = null; // lastSave: { reader, time } of the last file

  // --- moving --------------------------------------------------------------------------------------------------------

  // Moves the selected cells to one category.
  function reclassify(category) {
    if (!Cells.isKnown(category)) return showStatus(texts.unknown_class);
    move(Selection.cells().map((cell) => ({ cell, category })));
  }

  // Moves those of the cells that are in review to their proposed classes, but for those without a class to rely on.
  function accept(cells) {
    const inReview = cells.filter((cell) => cell.category === REVIEW), accepted = inReview.filter(Cells.hasProposal);
    const n = inReview.length - accepted.length, note = n ? format(texts.doubted_left, { n }) : "";
    if (!accepted.length) return showStatus(note || texts.no_proposal);
    move(accepted.map((cell) => ({ cell, category: Cells.proposedCategory(cell) })), note);
  }

  // Moves cells in one step, and selects the next one, so that key after key can be pressed. note: on cells that stay.
  function move(moves, note = "") {
    const changes = moves.filter(({ cell, category }) => cell.category !== category);
    if (!changes.length) return;
    const moved = changes.map(({ cell }) => cell), next = nextCell(moved);
    undoStack.push(moved.map((cell) => ({ cell, category: cell.category })));
    setCategories(changes);
    noteChange();
    showStatus([describe(changes), note].filter(Boolean).join(". "));
    Selection.select(next);
  }

  // The cell to select after a move: the next of the same category, else the one before, else the last that is moved.
  function nextCell(moved) {
    const cells = Gallery.visibleIn(tileOf(moved[0]).closest(".category")).map(ofTile), stays = (cell) => !moved.includes(cell);
    const position = cells.findLastIndex((cell) => !stays(cell));
    return cells.slice(position).find(stays) || cells.slice(0, position).findLast(stays) || moved.at(-1);
  }

  function undo() {
    const changes = undoStack.pop();
    if (!changes) return;
    setCategories(changes);
    noteChange();
    const [{ cell, category }] = changes, n = changes.length;
    const values = { n, cell: Cells.locationOf(cell), category: categoryName(category) };
    showStatus(format(n === 1 ? texts.undone_one : texts.undone, values));
    Selection.selectAll(changes.map((change) => change.cell).filter((moved) => !tileOf(moved).hidden));
  }

  function setCategories(changes) {
    for (const { cell, category } of changes) cell.category = category;
    Gallery.place(changes.map(({ cell }) => cell));
    byId("undo").disabled = undoStack.length === 0;
    showCounts();
  }

  // What was moved where, for a reader who does not see it.
  function describe(changes) {
    const [{ cell, category }] = changes, n = changes.length;
    if (n === 1) return format(texts.moved_to, { cell: Cells.locationOf(cell), category: categoryName(category) });
    const targets = [...new Set(changes.map((change) => change.category))];
    return format(texts.moved_cells_to, { n, categories: targets.map(categoryName).join(", ") });
  }

  // --- counts --------------------------------------------------------------------------------------------------------

  function showCounts() {
    const counts = Cells.count();
    Counts.showTotals(counts);
    Counts.showNrbc(counts);
    byId("counts-note").textContent = format(texts.counts_note, { ...counts, fields: data.slide_fields });
    if (counts.cells) byId("verdict").textContent = Counts.verdict(counts, texts.verdict, data.low_count_below);
    counts.classes.forEach((entry, index) => Counts.showClass(entry, originalCounts.classes[index], texts));
    Counts.showSubtypes(Cells.all, counts.counted, Cells.subtypeOf);
    for (const category of data.categories) Panel.showButtonCount(counts, category);
    const isChanged = Cells.all.some(isReclassified);
    byId("changes-note").hidden = !isChanged;
    for (const flag of document.querySelectorAll(".range-flag")) flag.hidden = isChanged;
  }

  // --- keeping, in the browser, until the review is applied ------------------------------------------------------------

  // Another review of the slide that moves a cell gives the results another hash. The key ends in the reader's initials.
  const PREFIX = "wbctool.review.", INITIALS_KEY = "wbctool.initials", DAYS_KEPT = 90;
  const keyOf = (reader) => `${PREFIX}${data.results}.${reader}`, initials = () => byId("initials").value.trim();
  let keptFor = ""; // the initials under which the review is kept
  const hasNewComment = (cell) => cell.comment !== cell.originalComment;

  function noteChange() {
    isSaved = false;
    keep();
  }

  function keep() {
    const packed = (changes) => changes.map(({ cell, category }) => [cell.row, category]);
    if (keptFor !== initials()) Kept.remove(keyOf(keptFor));
    keptFor = initials();
    Kept.write(keyOf(keptFor), JSON.stringify({
      changed: Date.now(),
      undo: undoStack.map(packed),
      moved: packed(Cells.all.filter(isReclassified).map((cell) => ({ cell, category: cell.category }))),
      comments: Cells.all.filter(hasNewComment).map((cell) => [cell.row, cell.comment]),
      slideComment: byId("slide-comment").value,
      isSaved, lastSave,
    }));
  }

  function restore() {
    forgetOldReviews();
    const present = Kept.read(INITIALS_KEY, "sessionStorage") || ""; // of this window; the next reader has another
    byId("initials").value = present;
    if (location.pathname.endsWith("/original-report.html")) return; // it shows the slide as the run left it
    const readers = present ? [present, ""] : Kept.keys(keyOf("")).map((key) => key.slice(keyOf("").length));
    const reader = readers.find((each) => isOpen(Kept.readJson(keyOf(each))));
    if (reader === undefined) return;
    const kept = Kept.readJson(keyOf(reader));
    keptFor = reader;
    byId("initials").value = reader || present;
    const unpacked = (changes) => changes.map(([row, category]) => ({ cell: Cells.all[row - 1], category }));
    undoStack.push(...kept.undo.map(unpacked));
    for (const [row, comment] of kept.comments) Cells.all[row - 1].comment = comment;
    byId("slide-comment").value = kept.slideComment;
    isSaved = kept.isSaved;
    lastSave = isApplied(kept.lastSave) ? null : kept.lastSave;
    setCategories(unpacked(kept.moved));
    const restored = reader && reader !== present ? format(texts.restored_of, { reader }) : texts.restored;
    showStatus(lastSave ? format(texts.saved_before, { ...lastSave, time: localTime(lastSave.time) }) : restored);
  }

  // Whether a kept review has something that is not applied yet.
  function isOpen(kept) {
    if (!kept || (kept.isSaved && isApplied(kept.lastSave))) return false;
    return Boolean(kept.lastSave || kept.moved.length || kept.comments.length || kept.slideComment);
  }

  // A review without moved cells leaves the hash of the results as it is.
  function isApplied(save) {
    return save !== null && data.review_times.some((time) => Date.parse(time) === Date.parse(save.time));
  }

  function forgetOldReviews() {
    const oldest = Date.now() - DAYS_KEPT * 24 * 3600 * 1000;
    for (const key of Kept.keys(PREFIX)) if (!(Kept.readJson(key)?.changed > oldest)) Kept.remove(key);
  }

  // The reader's hour and minute, with the day if it is not today.
  function localTime(time) {
    const [day, clock] = local(new Date(time)), [today] = local(new Date());
    return day === today ? clock : `${day} ${clock}`;
  }

  const local = (date) => new Date(date - 60000 * date.getTimezoneOffset()).toISOString().slice(0, 16).split("T");

  // --- saving --------------------------------------------------------------------------------------------------------

  // The content of the file, which `wbctool review apply` reads.
  function content() {
    const changed = Cells.all.filter((cell) => isReclassified(cell) || hasNewComment(cell));
    return {
      schema: "wbctool-review/1",
      slide: data.slide,
      results: data.results,
      reader: byId("initials").value.trim(),
      time: new Date().toISOString(),
      comment: byId("slide-comment").value.trim(),
      cells: changed.map((cell) => ({
        row: cell.row,
        field: data.fields[cell.field],
        cell: cell.cell,
        from: cell.originalCategory,
        to: cell.category,
        comment: cell.comment,
      })),
    };
  }

  function save() {
    if (!byId("initials").value.trim()) {
      showStatus(texts.need_initials);
      byId("initials").focus();
      return;
    }
    // The time in the name keeps the browser from naming a second file "… (1)", which sorts before the first.
    const review = content(), file = `${data.review_file_stem}-${review.time.replaceAll(":", "")}.json`;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(review, null, 1) + "\n"], { type: "application/json" }));
    link.download = file;
    link.click();
    URL.revokeObjectURL(link.href);
    [isSaved, lastSave] = [true, { reader: review.reader, time: review.time }];
    keep();
    const n = countMoved(), argument = /[^\w.-]/.test(file) ? `"${file}"` : file;
    const moved = n === 1 ? texts.one_moved : format(texts.n_moved, { n });
    byId("review-status").textContent = format(texts.saved, { moved, file, argument });
  }

  const countMoved = () => Cells.all.filter(isReclassified).length;

  function showStatus(text) {
    const unsaved = lastSave ? texts.unsaved_since : texts.unsaved;
    byId("review-status").textContent = `${text} (${texts.changes}: ${countMoved()}${isSaved ? "" : `, ${unsaved}`})`;
  }

  function start() {
    byId("cell-comment").addEventListener("input", (event) => {
      for (const cell of Selection.cells()) cell.comment = event.target.value;
      noteChange();
    });
    byId("slide-comment").addEventListener("input", noteChange);
    byId("initials").addEventListener("input", () => {
      Kept.write(INITIALS_KEY, initials(), "sessionStorage");
      if (!isSaved) keep();
    });
    byId("accept").addEventListener("click", () => accept(Selection.cells()));
    byId("undo").addEventListener("click", undo);
    byId("save").addEventListener("click", save);
    window.addEventListener("beforeunload", (event) => {
      if (!isSaved) event.preventDefault();
    });
    showCounts();
    restore();
  }

  return { reclassify, accept, undo, start };
})();
