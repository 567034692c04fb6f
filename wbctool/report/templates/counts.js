// The differential that follows a reader's changes, and its display in the table and the charts.
const Counts = (() => {
  const REVIEW = "review";
  const byId = (id) => document.getElementById(id);
  const formatPercent = (value) => (value === null ? "–" : Binomial.oneDecimal(value));
  const percentOf = (n, total) => (total ? (100 * n) / total : null);

  // Fills the placeholders of a Python format string.
  const format = (text, values) => text.replace(/\{(\w+)(?::[^}]*)?\}/g, (_, key) => values[key]);

  // Counts cells, each with a category, and those that a reader moved or named. differentialClasses: the categories that are counted.
  function count(cells, categories, differentialClasses) {
    const byCategory = Object.fromEntries(categories.map((category) => [category, 0]));
    for (const cell of cells) byCategory[cell.category] += 1;
    const counted = differentialClasses.reduce((total, category) => total + byCategory[category], 0);
    const review = byCategory[REVIEW], total = counted + review;
    const classes = differentialClasses.map((category) => {
      const n = byCategory[category];
      return {
        category, n,
        percent: percentOf(n, counted),
        ci: counted ? Binomial.interval(n, counted) : null,
        reviewLow: percentOf(n, total),
        reviewHigh: percentOf(n + review, total),
      };
    });
    const moved = cells.filter((cell) => cell.category !== cell.toolCategory);
    const named = moved.filter((cell) => differentialClasses.includes(cell.category)).length;
    return { byCategory, counted, review, not_wbc: cells.length - total, cells: cells.length, moved: moved.length, named, classes };
  }

  // The verdict in the banner, as wbctool/report/summary.py words it. texts: the sentences. Not for a slide without cells.
  function verdict(counts, texts, lowCountBelow) {
    const values = { ...counts, failed_fields: texts.failed_fields };
    if (!counts.counted) return format(counts.review ? texts.all_in_review : texts.no_wbc, values);
    const sentence = counts.counted < lowCountBelow ? texts.low_count : texts.counted;
    const clauses = counts.review ? { in_review: format(texts.review, counts), not_yet: texts.not_yet } : { in_review: "", not_yet: "" };
    return format((counts.moved && texts.moved) || sentence, { ...values, ...clauses });
  }

  function showTotals(counts) {
    byId("n-counted").textContent = counts.counted;
    byId("n-review").textContent = counts.review;
    byId("n-not-wbc").textContent = counts.not_wbc;
  }

  // Nucleated red cells per 100 counted cells; the table has no such numbers if the model does not know them.
  function showNrbc(counts) {
    if (!byId("nrbc")) return;
    const n = counts.byCategory.erythroblast;
    byId("nrbc-n").textContent = n;
    byId("nrbc").textContent = formatPercent(percentOf(n, counts.counted));
  }

  // One row of the table. original: the same class before any change.
  function showClass(entry, original, texts) {
    const row = document.querySelector(`tr[data-class="${entry.category}"]`);
    const cell = (value) => row.querySelector(`[data-value="${value}"]`);
    if (!cell("n")) return; // the model does not know this class
    cell("n").textContent = entry.n;
    cell("percent").textContent = formatPercent(entry.percent);
    cell("ci").textContent = entry.ci ? entry.ci.map(formatPercent).join(" – ") : "–";
    cell("review-range").textContent =
      entry.reviewLow === null ? "–" : `${formatPercent(entry.reviewLow)} – ${formatPercent(entry.reviewHigh)}`;
    cell("n").classList.toggle("is-changed", entry.n !== original.n);
    cell("n").title = entry.n === original.n ? "" : format(texts.was, { value: original.n });
    drawChart(byId(`chart-${entry.category}`), entry, texts);
  }

  // The rows "of which" below a class, hidden while it has no cell. subtypeOf: the subtype of a cell within its category, or an empty text.
  function showSubtypes(cells, counted, subtypeOf) {
    const rows = [...document.querySelectorAll("tr.subtype")];
    for (const row of rows) {
      const { of, subtype } = row.dataset;
      const ofClass = cells.filter((cell) => cell.category === of);
      const n = ofClass.filter((cell) => subtypeOf(cell) === subtype).length;
      row.hidden = !ofClass.length;
      row.querySelector('[data-value="n"]').textContent = n;
      row.querySelector('[data-value="percent"]').textContent = formatPercent(percentOf(n, counted));
    }
    if (rows.length) byId("subtypes-note").hidden = rows.every((row) => row.hidden);
  }

  function svgElement(tag, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // The same drawing as the macro of the template.
  function drawChart(chart, { percent, ci, reviewLow, reviewHigh }, texts) {
    chart.replaceChildren(chart.querySelector(".grid"));
    chart.setAttribute("aria-label", texts.nothing_counted);
    if (percent === null) return;
    const [width, low, high] = [percent, ...ci].map(formatPercent);
    const [left, right] = [reviewLow, reviewHigh].map(formatPercent);
    chart.append(svgElement("rect", { class: "bar", x: 0, y: 4, width, height: 12 }));
    if (reviewLow !== reviewHigh) {
      chart.append(svgElement("path", { class: "review-range", d: `M${left} 1.5H${right}V18.5H${left}Z` }));
    }
    chart.append(svgElement("path", { class: "ci", d: `M${low} 10H${high}M${low} 6V14M${high} 6V14` }));
    const values = { percent: width, ci_low: low, ci_high: high, review_low: left, review_high: right };
    chart.setAttribute("aria-label", format(texts.chart_alt, values));
  }

  return { count, format, showClass, showNrbc, showSubtypes, showTotals, verdict, svgElement };
})();
