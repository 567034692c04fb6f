// The reader's panel: the current cell in full, and the buttons for the selected cells.
const Panel = (() => {
  const { data, texts, tileOf, categoryName } = Cells;
  const { format } = Counts;
  const byId = (id) => document.getElementById(id);
  const categoryByKey = data.category_by_key;

  // --- the current cell ----------------------------------------------------------------------------------------------

  function showSelection() {
    const cells = Selection.cells(), current = Selection.current();
    byId("selected-cells").textContent = cells.length > 1 ? format(texts.selected, { n: cells.length }) : "";
    byId("selected-cell").hidden = !current;
    showComment(cells);
    showButtons(cells);
    if (!current) return;
    byId("panel-help").open = false;
    const diameter = tileOf(current).querySelector(".diameter"); // null if it is not known
    const details = [Cells.topClasses(current), diameter?.textContent].filter(Boolean).join("; ");
    byId("selected-name").textContent = `${Cells.locationOf(current)}: ${categoryName(current.category)}. ${details}`;
    showThumbnails(current);
    showField(current);
    showCam();
  }

  // The comment that all selected cells have; what is typed goes to all of them.
  function showComment(cells) {
    const comments = new Set(cells.map((cell) => cell.comment)), n = cells.length;
    byId("cell-comment-row").hidden = n === 0;
    byId("cell-comment-label").textContent = n > 1 ? format(texts.cells_comment, { n }) : texts.cell_comment;
    byId("cell-comment").value = comments.size === 1 ? [...comments][0] : "";
    byId("cell-comment").placeholder = comments.size > 1 ? texts.comments_differ : "";
  }

  function showThumbnails(cell) {
    const superResolved = byId(`super-resolved-${cell.row}`);
    copyImage(byId(`native-${cell.row}`), byId("panel-native"));
    byId("view-super-resolved").hidden = !superResolved;
    if (superResolved) copyImage(superResolved, byId("panel-super-resolved"));
  }

  function copyImage(source, target) {
    target.src = source.src;
    target.alt = source.alt;
  }

  function showField(cell) {
    const thumbnail = byId(`field-${cell.field}`), image = byId("panel-field-image"), svg = byId("panel-field-box");
    image.hidden = svg.hidden = !thumbnail;
    byId("field-omitted").hidden = Boolean(thumbnail);
    if (!thumbnail) return;
    image.src = thumbnail.src;
    image.alt = format(texts.field_alt, { cell: Cells.locationOf(cell) });
    const { x = 0, y = 0 } = thumbnail.dataset;
    svg.setAttribute("viewBox", `${x} ${y} ${thumbnail.getAttribute("width")} ${thumbnail.getAttribute("height")}`);
    svg.replaceChildren(...["halo", "box"].map((kind) => Counts.svgElement("rect", { class: kind, ...cell.box })));
  }

  // The Grad-CAM map as a canvas of a few pixels, which the browser enlarges smoothly.
  function showCam() {
    const { row } = Selection.current(), encoded = data.cam[row];
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
    copyImage(byId(`super-resolved-${row}`) || byId(`native-${row}`), byId("panel-cam"));
  }

  // --- buttons -------------------------------------------------------------------------------------------------------

  function showButtons(cells) {
    for (const button of document.querySelectorAll("#category-buttons [data-category]")) {
      const { category } = button.dataset;
      button.setAttribute("aria-pressed", String(cells.length > 0 && cells.every((cell) => cell.category === category)));
      button.disabled = cells.length === 0 || !Cells.isKnown(category);
    }
    byId("accept").disabled = !cells.some(Cells.hasProposal);
  }

  function showButtonCount(counts, category) {
    const n = counts.byCategory[category], share = document.createElement("span");
    share.className = "share";
    if (Cells.differentialClasses.includes(category) && counts.counted) {
      share.textContent = ` · ${Binomial.oneDecimal((100 * n) / counts.counted)} %`;
    }
    byId(`count-${category}`).replaceChildren(String(n), share);
  }

  function addCategoryButton(key, category, onClick) {
    const button = document.createElement("button"), kbd = document.createElement("kbd");
    const name = document.createElement("span"), count = document.createElement("span");
    kbd.textContent = key;
    name.textContent = categoryName(category);
    [count.id, count.className] = [`count-${category}`, "count"];
    button.type = "button";
    button.dataset.category = category;
    button.disabled = true; // until a cell is selected
    if (!Cells.isKnown(category)) button.title = texts.unknown_class;
    button.append(kbd, name, count);
    button.addEventListener("click", () => onClick(category));
    byId("category-buttons").append(button);
  }

  // onCategory: called with the category of a button that is clicked.
  function start(onCategory) {
    byId("panel").hidden = false;
    for (const [key, category] of Object.entries(categoryByKey)) addCategoryButton(key, category, onCategory);
    byId("show-cam").addEventListener("change", showCam);
    byId("review-form").addEventListener("submit", (event) => event.preventDefault());
  }

  return { categoryByKey, showSelection, showButtonCount, start };
})();
