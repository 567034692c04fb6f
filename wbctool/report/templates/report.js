// The reader's part of a report: selecting cells, reclassifying them, the counts that follow, and saving review.json.
// Nothing is sent anywhere: the page's Content-Security-Policy forbids it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const texts = data.texts;
  const REVIEW = "review", ARTIFACT = "artefact";
  const DIFFERENTIAL_CLASSES = data.categories.slice(0, 6);
  const CATEGORY_BY_KEY = { r: REVIEW, x: ARTIFACT };
  data.categories.slice(0, 8).forEach((category, index) => (CATEGORY_BY_KEY[index + 1] = category));

  const cells = data.cells.map(([field, cell, x, y, width, height, categoryIndex, permille], index) => {
    const category = data.categories[categoryIndex], comment = data.comments[index + 1] || "";
    const box = { x, y, width, height };
    return { row: index + 1, field, cell, box, permille, category, originalCategory: category, comment, originalComment: comment };
  });
  const countCells = () => Counts.count(cells, data.categories, DIFFERENTIAL_CLASSES);
  const originalCounts = countCells();
  const undoStack = []; // what can be undone: { cell, category } as it was before
  let selected = null, isSaved = true;

  const { format } = Counts;
  const byId = (id) => document.getElementById(id);
  const tileOf = (cell) => byId(`cell-${cell.row}`);
  const cellOf = (tile) => cells[Number(tile.dataset.row) - 1];
  const allTiles = () => [...document.querySelectorAll(".cell")];
  const categoryName = (category) => data.category_names[data.categories.indexOf(category)];
  const locationOf = (cell) =>
    format(texts.cell_location, { field: data.field_display_names[cell.field], cell: cell.cell });
  const isReclassified = (cell) => cell.category !== cell.originalCategory;
  const isKnown = (category) => [REVIEW, ARTIFACT, ...data.model_classes].includes(category);

  // --- counts --------------------------------------------------------------------------------------------------------

  function showCounts() {
    const counts = countCells();
    Counts.showTotals(counts);
    Counts.showNrbc(counts);
    byId("counts-note").textContent = format(texts.counts_note, { ...counts, fields: data.slide_fields });
    if (counts.cells) byId("verdict").textContent = Counts.verdict(counts, texts.verdict, data.low_count_below);
    counts.classes.forEach((entry, index) => Counts.showClass(entry, originalCounts.classes[index], texts));
    for (const category of data.categories) showButtonCount(counts, category);
    const isChanged = cells.some(isReclassified);
    byId("changes-note").hidden = !isChanged;
    for (const flag of document.querySelectorAll(".range-flag")) flag.hidden = isChanged;
  }

  function showButtonCount(counts, category) {
    const n = counts.byCategory[category], share = document.createElement("span");
    share.className = "share";
    if (DIFFERENTIAL_CLASSES.includes(category) && counts.counted) {
      share.textContent = ` · ${((100 * n) / counts.counted).toFixed(1)} %`;
    }
    byId(`count-${category}`).replaceChildren(String(n), share);
  }

  // --- selection -----------------------------------------------------------------------------------------------------

  function select(cell, takeFocus = true) {
    if (selected) tileOf(selected).setAttribute("aria-pressed", "false");
    for (const tile of document.querySelectorAll('.cell[tabindex="0"]')) tile.tabIndex = -1;
    selected = cell;
    const tile = tileOf(cell);
    tile.setAttribute("aria-pressed", "true");
    tile.tabIndex = 0;
    if (takeFocus) {
      tile.focus();
      tile.scrollIntoView({ block: "nearest" });
    }
    showSelected();
  }

  function showSelected() {
    byId("selected-cell").hidden = byId("cell-comment-row").hidden = false;
    byId("panel-help").hidden = true;
    byId("selected-name").textContent =
      `${locationOf(selected)}: ${categoryName(selected.category)}. ${topClasses(selected)}`;
    byId("cell-comment").value = selected.comment;
    for (const button of document.querySelectorAll("#category-buttons button")) {
      button.setAttribute("aria-pressed", String(button.dataset.category === selected.category));
      button.disabled = !isKnown(button.dataset.category);
    }
    showThumbnails();
    showField();
    showCam();
  }

  function showThumbnails() {
    const superResolved = byId(`super-resolved-${selected.row}`);
    copyImage(byId(`native-${selected.row}`), byId("panel-native"));
    byId("view-super-resolved").hidden = !superResolved;
    if (superResolved) copyImage(superResolved, byId("panel-super-resolved"));
  }

  function copyImage(source, target) {
    target.src = source.src;
    target.alt = source.alt;
  }

  // The most probable classes, at most three, none below one percent.
  function topClasses(cell) {
    return cell.permille
      .map((value, index) => [value, data.model_classes[index]])
      .filter(([value]) => value >= 10)
      .sort((a, b) => b[0] - a[0])
      .slice(0, 3)
      .map(([value, label]) => `${categoryName(label)} ${(value / 1000).toFixed(2)}`)
      .join(", ");
  }

  function showField() {
    const thumbnail = byId(`field-${selected.field}`), image = byId("panel-field-image"), svg = byId("panel-field-box");
    image.hidden = svg.hidden = !thumbnail;
    byId("field-omitted").hidden = Boolean(thumbnail);
    if (!thumbnail) return;
    image.src = thumbnail.src;
    image.alt = format(texts.field_alt, { cell: locationOf(selected) });
    svg.setAttribute("viewBox", `0 0 ${thumbnail.getAttribute("width")} ${thumbnail.getAttribute("height")}`);
    svg.replaceChildren(...["halo", "box"].map((kind) => Counts.svgElement("rect", { class: kind, ...selected.box })));
  }

  // The Grad-CAM map as a canvas of a few pixels, which the browser enlarges smoothly.
  function showCam() {
    const encoded = data.cam[selected.row];
    byId("cam-option").hidden = !encoded;
    const isShown = Boolean(encoded) && byId("show-cam").checked;
    byId("view-cam").hidden = !isShown;
    if (!isShown) return;
    const values = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const canvas = byId("cam"), side = Math.round(Math.sqrt(values.length));
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), image = context.createImageData(side, side);
    values.forEach((value, index) => image.data.set([255, 230 - 0.6 * value, 0, value], 4 * index));
    context.putImageData(image, 0, 0);
    copyImage(byId(`super-resolved-${selected.row}`) || byId(`native-${selected.row}`), byId("panel-cam"));
  }

  // --- reclassification ----------------------------------------------------------------------------------------------

  // Moves a cell on the reader's command, and selects the next one, so that a key can be pressed cell after cell.
  function reclassify(cell, category) {
    if (!isKnown(category)) return showStatus(texts.unknown_class);
    if (category === cell.category) return;
    const item = tileOf(cell).parentElement, next = item.nextElementSibling || item.previousElementSibling;
    undoStack.push({ cell, category: cell.category });
    moveTile(cell, category);
    select(next ? cellOf(next.firstElementChild) : cell);
  }

  function undo() {
    const last = undoStack.pop();
    if (!last) return;
    moveTile(last.cell, last.category);
    select(last.cell);
  }

  function moveTile(cell, category) {
    const before = cell.category;
    cell.category = category;
    byId(`category-${category}`).querySelector(".tiles").prepend(tileOf(cell).parentElement);
    for (const changed of [before, category]) showCategory(changed);
    markTile(cell);
    isSaved = false;
    byId("undo").disabled = undoStack.length === 0;
    showCounts();
    showStatus(format(texts.moved_to, { cell: locationOf(cell), category: categoryName(category) }));
  }

  function showCategory(category) {
    const n = cells.filter((cell) => cell.category === category).length;
    const section = byId(`category-${category}`);
    section.hidden = n === 0;
    section.querySelector(".total").textContent = n;
  }

  function markTile(cell) {
    const tile = tileOf(cell);
    tile.querySelector(".by-reader")?.remove();
    if (!isReclassified(cell)) return;
    const mark = document.createElement("span");
    mark.className = "reclassified by-reader";
    const names = { category: categoryName(cell.category), original: categoryName(cell.originalCategory) };
    mark.textContent = format(texts.reclassified, names);
    tile.querySelector(".location").before(mark);
  }

  // --- saving --------------------------------------------------------------------------------------------------------

  // The content of review.json, which `wbctool review apply` reads.
  function review() {
    const changed = cells.filter((cell) => isReclassified(cell) || cell.comment !== cell.originalComment);
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
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(review(), null, 1) + "\n"], { type: "application/json" }));
    link.download = "review.json";
    link.click();
    URL.revokeObjectURL(link.href);
    isSaved = true;
    showStatus(texts.saved);
  }

  function showStatus(text) {
    const n = cells.filter(isReclassified).length;
    byId("review-status").textContent = `${text} (${texts.changes}: ${n}${isSaved ? "" : ", " + texts.unsaved})`;
  }

  // --- keyboard ------------------------------------------------------------------------------------------------------

  // The neighbor of a tile in the direction of an arrow key: left and right in reading order, up and down by position.
  function neighbor(tile, key) {
    const tiles = allTiles().filter((other) => other.offsetParent !== null), index = tiles.indexOf(tile);
    if (key === "ArrowLeft" || key === "ArrowRight") return tiles[index + (key === "ArrowRight" ? 1 : -1)];
    const start = tile.getBoundingClientRect(), direction = key === "ArrowDown" ? 1 : -1;
    const distance = ({ box }) => 10 * Math.abs(box.top - start.top) + Math.abs(box.left - start.left);
    return tiles
      .map((other) => ({ other, box: other.getBoundingClientRect() }))
      .filter(({ box }) => direction * (box.top - start.top) > 4)
      .sort((a, b) => distance(a) - distance(b))[0]?.other;
  }

  function onKey(event) {
    const tile = event.target.closest(".cell"), category = CATEGORY_BY_KEY[event.key.toLowerCase()];
    if (!tile || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key.startsWith("Arrow")) {
      const next = neighbor(tile, event.key);
      if (next) select(cellOf(next));
    } else if (category) {
      if (!event.repeat) reclassify(cellOf(tile), category); // a key held down must not move the cells that follow
    } else return;
    event.preventDefault();
  }

  // --- setup ---------------------------------------------------------------------------------------------------------

  function addCategoryButton(key, category) {
    const button = document.createElement("button"), kbd = document.createElement("kbd");
    const name = document.createElement("span"), count = document.createElement("span");
    kbd.textContent = key;
    name.textContent = categoryName(category);
    [count.id, count.className] = [`count-${category}`, "count"];
    button.type = "button";
    button.dataset.category = category;
    button.disabled = true; // until a cell is selected
    if (!isKnown(category)) button.title = texts.unknown_class;
    button.append(kbd, name, count);
    button.addEventListener("click", () => selected && reclassify(selected, category));
    byId("category-buttons").append(button);
  }

  function listenToGallery() {
    byId("gallery").addEventListener("click", (event) => {
      const tile = event.target.closest(".cell");
      if (tile) select(cellOf(tile));
    });
    byId("gallery").addEventListener("keydown", onKey);
    byId("gallery").addEventListener("focusin", (event) => {
      const tile = event.target.closest(".cell");
      if (tile && cellOf(tile) !== selected) select(cellOf(tile), false);
    });
  }

  function listenToPanel() {
    byId("cell-comment").addEventListener("input", (event) => {
      selected.comment = event.target.value;
      isSaved = false;
    });
    byId("slide-comment").addEventListener("input", () => (isSaved = false));
    byId("show-cam").addEventListener("change", showCam);
    byId("undo").addEventListener("click", undo);
    byId("save").addEventListener("click", save);
    byId("review-form").addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("beforeunload", (event) => {
      if (!isSaved) event.preventDefault();
    });
  }

  byId("panel").hidden = false;
  for (const [key, category] of Object.entries(CATEGORY_BY_KEY)) addCategoryButton(key, category);
  allTiles().forEach((tile, index) => {
    tile.setAttribute("aria-pressed", "false");
    tile.tabIndex = index === 0 ? 0 : -1;
  });
  listenToGallery();
  listenToPanel();
  showCounts();
})();
