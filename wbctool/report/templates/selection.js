// Which cells are selected. One of them is the current cell: it has the focus, and the panel shows it.
const Selection = (() => {
  const { tileOf, ofTile } = Cells;
  let selected = new Set(), current = null, anchor = null; // anchor: where a range of cells begins
  let listener = () => {};

  const cells = () => Gallery.tiles.map(ofTile).filter((cell) => selected.has(cell));

  function set(newCells, newCurrent, takeFocus = true) {
    for (const cell of selected) tileOf(cell).setAttribute("aria-selected", "false");
    selected = new Set(newCells);
    for (const cell of selected) tileOf(cell).setAttribute("aria-selected", "true");
    setCurrent(newCurrent, takeFocus);
    listener();
  }

  // Only the current tile can be reached with Tab; the arrow keys lead to the others.
  function setCurrent(cell, takeFocus) {
    for (const tile of Gallery.root.querySelectorAll('.cell[tabindex="0"]')) tile.tabIndex = -1;
    current = cell;
    const tile = cell ? tileOf(cell) : Gallery.visibleTiles()[0];
    if (tile) tile.tabIndex = 0;
    if (!cell || !takeFocus) return;
    tile.focus();
    tile.scrollIntoView({ block: "nearest" });
  }

  function select(cell, takeFocus = true) {
    anchor = cell;
    set([cell], cell, takeFocus);
  }

  function selectAll(newCells) {
    if (!newCells.length) return;
    anchor = newCells[0];
    set(newCells, newCells.includes(current) ? current : newCells[0]);
  }

  function toggle(cell) {
    anchor = cell;
    const others = [...selected].filter((other) => other !== cell);
    set(selected.has(cell) ? others : [...others, cell], cell);
  }

  // Selects the cells shown between the anchor and a cell.
  function extendTo(cell) {
    const shown = Gallery.visibleTiles().map(ofTile);
    const [start, end] = [shown.indexOf(anchor || cell), shown.indexOf(cell)].sort((a, b) => a - b);
    set(shown.slice(start, end + 1), cell);
  }

  // Makes a cell the current one without selecting it.
  function moveTo(cell) {
    set(selected, cell);
  }

  // Forgets the cells that are not shown any more.
  function dropHidden() {
    const isShown = (cell) => cell && !tileOf(cell).hidden;
    if (!isShown(anchor)) anchor = null;
    const shown = cells().filter(isShown);
    set(shown, isShown(current) ? current : (shown[0] ?? null), false);
  }

  function start(onChange) {
    listener = onChange;
    for (const list of Gallery.root.querySelectorAll(".tiles")) {
      list.setAttribute("role", "listbox");
      list.setAttribute("aria-multiselectable", "true");
    }
    for (const tile of Gallery.tiles) {
      tile.setAttribute("role", "option");
      tile.setAttribute("aria-selected", "false");
      tile.tabIndex = -1;
    }
    setCurrent(null, false);
  }

  return { cells, current: () => current, select, selectAll, toggle, extendTo, moveTo, dropHidden, start };
})();
