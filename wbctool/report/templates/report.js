// What the reader does in the gallery with mouse and keys, and the start of the page.
(() => {
  const { ofTile } = Cells;
  const comment = document.getElementById("cell-comment");
  const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
  const cellsOf = (group) => Gallery.visibleIn(group).map(ofTile);
  const several = document.getElementById("select-several");
  const isSelectingSeveral = () => several.getAttribute("aria-pressed") === "true";
  const hasControl = (event) => event.ctrlKey || event.metaKey;

  // --- mouse ---------------------------------------------------------------------------------------------------------

  function onClick(event) {
    const tile = event.target.closest(".cell"), button = event.target.closest("button");
    if (button?.matches(".select-group")) Selection.selectAll(cellsOf(Gallery.groupOf(button)));
    if (button?.matches(".accept-group")) Review.accept(cellsOf(Gallery.groupOf(button)));
    if (!tile) return;
    if (event.shiftKey) Selection.extendTo(ofTile(tile));
    else if (hasControl(event) || isSelectingSeveral()) Selection.toggle(ofTile(tile));
    else Selection.select(ofTile(tile));
  }

  // Without this a click with Shift marks text, and focuses a tile, which selects it, before it is known what to select.
  function onMouseDown(event) {
    if (event.target.closest(".cell")) event.preventDefault();
  }

  // Tab into the gallery selects the cell where it arrives.
  function onFocus(event) {
    const tile = event.target.closest(".cell");
    if (tile && ofTile(tile) !== Selection.current()) Selection.select(ofTile(tile), false);
  }

  // --- keyboard ------------------------------------------------------------------------------------------------------

  function onKey(event) {
    const tile = event.target.closest(".cell");
    if (!tile || event.altKey) return;
    const isHandled = hasControl(event) ? onControlKey(event, tile) : onPlainKey(event, tile);
    if (isHandled) event.preventDefault();
  }

  function onControlKey(event, tile) {
    const key = event.key.toLowerCase();
    if (ARROWS.includes(event.key)) go(event, tile, Selection.moveTo);
    else if (key === " ") Selection.toggle(ofTile(tile));
    else if (key === "a") Selection.selectAll(cellsOf(Gallery.groupOf(tile)));
    else if (key === "z" && !event.shiftKey) Review.undo();
    else return false;
    return true;
  }

  function onPlainKey(event, tile) {
    const key = event.key.toLowerCase(), category = Panel.categoryByKey[key];
    if (ARROWS.includes(event.key)) go(event, tile, event.shiftKey ? Selection.extendTo : Selection.select);
    else if (key === " ") Selection.toggle(ofTile(tile));
    else if (key === "escape") Selection.select(ofTile(tile));
    else if (event.repeat && (category || key === "a")) return true; // a key held down must not move the cells that follow
    else if (category) Review.reclassify(category);
    else if (key === "a") Review.accept(Selection.cells());
    else if (key === "c") comment.focus(); // hidden while no cell is selected, and then it takes no focus
    else return false;
    return true;
  }

  function onCommentKey(event) {
    if (!["Enter", "Escape"].includes(event.key) || event.isComposing) return;
    event.preventDefault();
    Cells.tileOf(Selection.current()).focus();
  }

  function go(event, tile, action) {
    const next = Gallery.destination(tile, event.key);
    if (next) action(ofTile(next));
  }

  Panel.start(Review.reclassify);
  Gallery.start(Selection.dropHidden);
  Selection.start(Panel.showSelection);
  Review.start();
  several.addEventListener("click", () => several.setAttribute("aria-pressed", String(!isSelectingSeveral())));
  Gallery.root.addEventListener("click", onClick);
  Gallery.root.addEventListener("mousedown", onMouseDown);
  Gallery.root.addEventListener("focusin", onFocus);
  Gallery.root.addEventListener("keydown", onKey);
  comment.addEventListener("keydown", onCommentKey);
})();
