// The slide's cells and the names of their categories, from the data of the page. Some cells of a huge slide have no tile.
const Cells = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const REVIEW = "review", ARTIFACT = "artefact";
  const differentialClasses = data.differential_classes;

  const all = data.cells.map(([field, cell, x, y, width, height, categoryIndex, permille, subtype], index) => {
    const category = data.categories[categoryIndex], comment = data.comments[index + 1] || "";
    const toolCategory = data.tool_categories[index + 1] || category; // before any reader's change
    const box = { x, y, width, height };
    return {
      row: index + 1, field, cell, box, permille, subtype, category, toolCategory, originalCategory: category,
      comment, originalComment: comment,
    };
  });

  const tileOf = (cell) => document.getElementById(`cell-${cell.row}`);
  const ofTile = (tile) => all[Number(tile.dataset.row) - 1];
  const categoryName = (category) => data.category_names[data.categories.indexOf(category)];
  const locationOf = (cell) =>
    Counts.format(data.texts.cell_location, { field: data.field_display_names[cell.field], cell: cell.cell });
  const proposedCategory = (cell) => tileOf(cell).dataset.label;
  // The class that a cell in review is shown with is proposed, unless the page says not to rely on it.
  const isDoubted = (cell) => tileOf(cell).dataset.reviewGroup !== proposedCategory(cell);
  const hasProposal = (cell) => cell.category === REVIEW && !isDoubted(cell);
  const isReclassified = (cell) => cell.category !== cell.originalCategory;
  const isKnown = (category) => [REVIEW, ARTIFACT, ...data.model_classes].includes(category);
  // A cell that is moved to another class has no subtype there.
  const subtypeOf = (cell) => (data.subtype_classes[cell.subtype] === cell.category ? cell.subtype : "");
  const count = () => Counts.count(all, data.categories, differentialClasses);

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

  return {
    data, texts: data.texts, all, REVIEW, ARTIFACT, differentialClasses, tileOf, ofTile, categoryName, locationOf,
    proposedCategory, hasProposal, isReclassified, isKnown, subtypeOf, count, topClasses,
  };
})();
