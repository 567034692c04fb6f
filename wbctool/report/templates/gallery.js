// The tiles of the cells: in which group each is, which of them are shown, and how large.
const Gallery = (() => {
  const { texts, REVIEW, tileOf, ofTile } = Cells;
  const SIZE_KEY = "wbctool.cell-size";
  const byId = (id) => document.getElementById(id);
  const root = byId("gallery");
  const options = byId("gallery-options"); // null on a page without images
  const sizeInput = byId("cell-size"), minInput = byId("min-confidence"), maxInput = byId("max-confidence");
  const tiles = [...root.querySelectorAll(".cell")];
  const originalPosition = new Map(tiles.map((tile, index) => [tile, index]));

  const groupOf = (tile) => tile.closest(".group");
  const visibleIn = (element) => [...element.querySelectorAll(".cell:not([hidden])")];
  const visibleTiles = () => visibleIn(root);

  // --- groups --------------------------------------------------------------------------------------------------------

  // Puts tiles into the groups of their cells: the moved ones first, the others where they were.
  function place(cells) {
    for (const cell of [...cells].reverse()) {
      const tile = tileOf(cell), name = cell.category === REVIEW ? `review-${tile.dataset.reviewGroup}` : cell.category;
      const list = byId(`group-${name}`).querySelector(".tiles");
      tile.remove();
      list.insertBefore(tile, Cells.isReclassified(cell) ? list.firstElementChild : successor(list, tile));
      markReclassified(cell);
    }
    showGroups();
  }

  // The first tile that was not moved and comes after a tile in the original order; null if there is none.
  function successor(list, tile) {
    const comesAfter = (other) => originalPosition.get(other) > originalPosition.get(tile);
    return [...list.children].find((other) => comesAfter(other) && !Cells.isReclassified(ofTile(other))) || null;
  }

  function markReclassified(cell) {
    const tile = tileOf(cell);
    tile.querySelector(".by-reader")?.remove();
    if (!Cells.isReclassified(cell)) return;
    const mark = document.createElement("span");
    mark.className = "reclassified by-reader";
    const names = { category: Cells.categoryName(cell.category), original: Cells.categoryName(cell.originalCategory) };
    mark.textContent = Counts.format(texts.reclassified, names);
    tile.querySelector(".location").before(mark);
  }

  function showGroups() {
    const { byCategory } = Cells.count();
    for (const [category, n] of Object.entries(byCategory)) {
      const section = byId(`category-${category}`);
      section.hidden = n === 0 || isFilteredOut(section);
      showTotal(section.querySelector("h2 .total"), section, n);
    }
    for (const group of root.querySelectorAll(".group")) showGroup(group);
  }

  const isFilteredOut = (element) => element.querySelector(".cell") && !visibleIn(element).length;

  // The number in a heading; while the filter hides some of the cells, also how many are shown.
  function showTotal(heading, element, total) {
    const isFiltered = element.querySelector(".cell[hidden]") !== null;
    heading.textContent = isFiltered ? Counts.format(texts.shown_of, { shown: visibleIn(element).length, total }) : total;
  }

  function showGroup(group) {
    const n = visibleIn(group).length, total = group.querySelector("h3 .total"), accept = group.querySelector(".accept-group");
    if (total) showTotal(total, group, group.querySelectorAll(".cell").length);
    if (total) group.hidden = n === 0;
    group.querySelector(".tiles").hidden = group.querySelector(".group-actions").hidden = n === 0;
    if (!accept) return;
    accept.textContent = Counts.format(texts.accept_group, { n, category: Cells.categoryName(accept.dataset.label) });
  }

  // --- what is shown -------------------------------------------------------------------------------------------------

  // Shows the cells between two confidences, as the tiles have them in two decimals.
  function filter() {
    const min = Number(minInput.value), max = Number(maxInput.value);
    for (const tile of tiles) tile.hidden = tile.dataset.confidence < min || tile.dataset.confidence > max;
    for (const input of [minInput, maxInput]) input.nextElementSibling.value = Number(input.value).toFixed(2);
    const shown = visibleTiles().length, total = tiles.length;
    byId("shown-cells").textContent = shown < total ? Counts.format(texts.shown, { shown, total }) : "";
    showGroups();
  }

  // Keeps the lower limit below the upper one.
  function limitOther(changed, other) {
    if (Number(minInput.value) > Number(maxInput.value)) other.value = changed.value;
  }

  function setSize() {
    root.style.setProperty("--tile-px", `${sizeInput.value}px`);
    Kept.write(SIZE_KEY, sizeInput.value);
  }

  function restoreSize() {
    const stored = Kept.read(SIZE_KEY);
    if (stored) root.style.setProperty("--tile-px", `${Number(stored)}px`);
    sizeInput.value = parseInt(getComputedStyle(root).getPropertyValue("--tile-px"), 10);
  }

  // onFilter: called after other cells are shown than before.
  function start(onFilter) {
    for (const actions of root.querySelectorAll(".group-actions")) actions.hidden = false;
    showGroups();
    if (!options) return;
    options.hidden = false;
    restoreSize();
    filter();
    sizeInput.addEventListener("input", setSize);
    for (const [input, other] of [[minInput, maxInput], [maxInput, minInput]]) {
      input.addEventListener("input", () => {
        limitOther(input, other);
        filter();
        onFilter();
      });
    }
  }

  // --- neighbors -----------------------------------------------------------------------------------------------------

  // The tile to which a key leads: left and right in reading order, up and down by position, Home and End in the group.
  function destination(tile, key) {
    const inGroup = visibleIn(groupOf(tile));
    if (key === "Home") return inGroup[0];
    if (key === "End") return inGroup.at(-1);
    const shown = visibleTiles();
    if (key === "ArrowLeft") return shown[shown.indexOf(tile) - 1];
    if (key === "ArrowRight") return shown[shown.indexOf(tile) + 1];
    return nearestInRow(shown, tile, key === "ArrowDown" ? 1 : -1);
  }

  function nearestInRow(shown, tile, direction) {
    const start = tile.getBoundingClientRect();
    const distance = ({ box }) => 10 * Math.abs(box.top - start.top) + Math.abs(box.left - start.left);
    return shown
      .map((other) => ({ other, box: other.getBoundingClientRect() }))
      .filter(({ box }) => direction * (box.top - start.top) > 4)
      .sort((a, b) => distance(a) - distance(b))[0]?.other;
  }

  return { root, tiles, groupOf, visibleIn, visibleTiles, place, destination, start };
})();
