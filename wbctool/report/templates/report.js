// The reader's part of a report: choosing cells, moving them, the counts that follow, and saving review.json.
// Nothing is sent anywhere: the page may not (see its Content-Security-Policy).
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const t = data.texts;
  const REVIEW = "review", ARTEFACT = "artefact";
  const DIFFERENTIAL = data.categories.slice(0, 6);
  const KEYS = { r: REVIEW, x: ARTEFACT };
  data.categories.slice(0, 8).forEach((place, i) => (KEYS[i + 1] = place));

  const cells = data.cells.map(([field, cell, x, y, width, height, place, permille], i) => ({
    row: i + 1, field, cell, box: { x, y, width, height }, was: data.categories[place], place: data.categories[place], permille,
    comment: data.comments[i + 1] || "", commentWas: data.comments[i + 1] || "",
  }));
  const original = count();
  const undone = []; // what can be undone: [cell, the place it came from]
  let chosen = null, saved = true;

  const byId = (id) => document.getElementById(id);
  const tile = (cell) => byId(`cell-${cell.row}`);
  const name = (place) => data.names[data.categories.indexOf(place)];
  const fill = (text, values) => text.replace(/\{(\w+)(?::[^}]*)?\}/g, (_, key) => values[key]);
  const where = (cell) => fill(t.where, { field: data.field_display_names[cell.field], cell: cell.cell });
  const percent = (value) => (value === null ? "–" : Binomial.twoDecimals(value));
  const isKnown = (place) => place === REVIEW || place === ARTEFACT || data.model_classes.includes(place);

  // --- counting ------------------------------------------------------------------------------------------------------

  function count() {
    const of = Object.fromEntries(data.categories.map((place) => [place, 0]));
    for (const cell of cells) of[cell.place] += 1;
    const counted = DIFFERENTIAL.reduce((total, place) => total + of[place], 0);
    const review = of[REVIEW], seen = counted + review;
    const classes = DIFFERENTIAL.map((place) => {
      const n = of[place];
      return {
        place, n,
        pct: counted ? (100 * n) / counted : null,
        ci: counted ? Binomial.interval(n, counted) : null,
        none: seen ? (100 * n) / seen : null,
        all: seen ? (100 * (n + review)) / seen : null,
      };
    });
    return { of, counted, review, not_wbc: cells.length - seen, cells: cells.length, classes };
  }

  function showCounts() {
    const now = count();
    byId("n-counted").textContent = now.counted;
    byId("n-review").textContent = now.review;
    byId("n-not-wbc").textContent = now.not_wbc;
    byId("counts-note").textContent = fill(t.note, { ...now, fields: data.slide_fields });
    if (now.cells) byId("verdict").textContent = verdict(now);
    now.classes.forEach((entry, i) => showClass(entry, original.classes[i]));
    if (byId("nrbc")) {
      const n = now.of.erythroblast;
      byId("nrbc-n").textContent = n;
      byId("nrbc").textContent = percent(now.counted ? (100 * n) / now.counted : null);
    }
    for (const place of data.categories) {
      const [n, share] = tally(now, place);
      byId(`count-${place}`).replaceChildren(String(n), Object.assign(document.createElement("span"), { className: "share", textContent: share }));
    }
    const moved = cells.some((cell) => cell.place !== cell.was);
    byId("changed").hidden = !moved;
    for (const mark of document.querySelectorAll(".against")) mark.hidden = moved;
  }

  function showClass({ place, n, pct, ci, none, all }, before) {
    const row = document.querySelector(`tr[data-class="${place}"]`);
    const texts = {
      n: String(n),
      pct: percent(pct),
      ci: ci ? `${percent(ci[0])} – ${percent(ci[1])}` : "–",
      span: none === null ? "–" : `${percent(none)} / ${percent(all)}`,
    };
    for (const [key, text] of Object.entries(texts)) {
      const field = row.querySelector(`[data-of="${key}"]`);
      if (!field) return; // a class that the model does not know
      field.textContent = text;
    }
    const number = row.querySelector('[data-of="n"]');
    number.classList.toggle("is-changed", n !== before.n);
    number.title = n === before.n ? "" : fill(t.was, { value: before.n });
    draw(byId(`chart-${place}`), { pct, ci, none, all });
  }

  // The same drawing as the template's macro.
  function draw(chart, { pct, ci, none, all }) {
    const part = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return element;
    };
    const parts = [chart.querySelector(".grid")];
    if (pct !== null) {
      const [low, high] = ci.map(percent);
      parts.push(
        part("rect", { class: "bar", x: 0, y: 4, width: percent(pct), height: 12 }),
        ...(none === all ? [] : [part("path", { class: "span", d: `M${percent(none)} 1.5H${percent(all)}V18.5H${percent(none)}Z` })]),
        part("path", { class: "ci", d: `M${low} 10H${high}M${low} 6V14M${high} 6V14` }),
      );
      const words = { percent: percent(pct), low, high, none: percent(none), all: percent(all) };
      chart.setAttribute("aria-label", fill(t.chart, words));
    }
    chart.replaceChildren(...parts);
  }

  function verdict(now) {
    const values = { ...now, without: t.without, fields: data.slide_fields };
    if (!now.counted) return fill(now.review ? t.verdict.all_in_review : t.verdict.no_wbc, values);
    const sentence = now.counted < data.low_count_below ? t.verdict.low : t.verdict.enough;
    return fill(sentence, { ...values, review: now.review ? fill(t.verdict.review, now) : "" });
  }

  function tally(now, place) {
    const n = now.of[place];
    return DIFFERENTIAL.includes(place) && now.counted ? [n, ` · ${((100 * n) / now.counted).toFixed(1)} %`] : [n, ""];
  }

  // --- choosing ------------------------------------------------------------------------------------------------------

  const tiles = () => [...document.querySelectorAll(".cell")].filter((button) => button.offsetParent !== null);

  function choose(cell, focus = true) {
    if (chosen) tile(chosen).setAttribute("aria-pressed", "false");
    for (const button of document.querySelectorAll('.cell[tabindex="0"]')) button.tabIndex = -1;
    chosen = cell;
    const button = tile(cell);
    button.setAttribute("aria-pressed", "true");
    button.tabIndex = 0;
    if (focus) {
      button.focus();
      button.scrollIntoView({ block: "nearest" });
    }
    showChosen();
  }

  function showChosen() {
    byId("chosen").hidden = byId("chosen-more").hidden = false;
    byId("panel-help").hidden = true;
    byId("chosen-name").textContent = `${where(chosen)}: ${name(chosen.place)}. ${likely(chosen)}`;
    showPicture("native", byId(`native-${chosen.row}`));
    const enhanced = byId(`enhanced-${chosen.row}`);
    byId("view-enhanced").hidden = !enhanced;
    if (enhanced) showPicture("enhanced", enhanced);
    byId("cell-comment").value = chosen.comment;
    for (const button of document.querySelectorAll("#moves button")) {
      button.setAttribute("aria-pressed", String(button.dataset.place === chosen.place));
      button.disabled = !isKnown(button.dataset.place);
    }
    showField();
    showAttention();
  }

  function showPicture(kind, image) {
    const big = byId(`big-${kind}`);
    big.src = image.src;
    big.alt = image.alt;
  }

  // What the model took the cell for, the most probable first: at most three classes, none below one percent.
  function likely(cell) {
    return cell.permille
      .map((value, i) => [value, data.model_classes[i]])
      .filter(([value]) => value >= 10)
      .sort((a, b) => b[0] - a[0])
      .slice(0, 3)
      .map(([value, place]) => `${name(place)} ${(value / 1000).toFixed(2)}`)
      .join(", ");
  }

  function showField() {
    const overview = byId(`field-${chosen.field}`), image = byId("field-view"), svg = byId("field-box");
    image.hidden = svg.hidden = !overview;
    byId("no-field").hidden = Boolean(overview);
    if (!overview) return;
    image.src = overview.src;
    image.alt = `${t.field}: ${where(chosen)}`;
    const [width, height] = [overview.getAttribute("width"), overview.getAttribute("height")];
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(
      ...["halo", "box"].map((kind) => {
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        rect.setAttribute("class", kind);
        for (const [key, value] of Object.entries(chosen.box)) rect.setAttribute(key, value);
        return rect;
      }),
    );
  }

  // The Grad-CAM map as a canvas of its few points, which the browser enlarges smoothly.
  function showAttention() {
    const encoded = data.cam[chosen.row];
    byId("attention-row").hidden = !encoded;
    const wanted = Boolean(encoded) && byId("show-attention").checked;
    byId("view-attention").hidden = !wanted;
    if (!wanted) return;
    const values = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const canvas = byId("attention"), side = Math.round(Math.sqrt(values.length));
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), image = context.createImageData(side, side);
    values.forEach((value, i) => image.data.set([255, 230 - 0.6 * value, 0, value], 4 * i));
    context.putImageData(image, 0, 0);
    showPicture("attended", byId(`enhanced-${chosen.row}`) || byId(`native-${chosen.row}`));
  }

  // --- moving --------------------------------------------------------------------------------------------------------

  function move(cell, place, noted = true) {
    if (!isKnown(place)) return say(t.unknown_class);
    if (place === cell.place) return;
    const button = tile(cell), item = button.parentElement, from = cell.place;
    const next = item.nextElementSibling || item.previousElementSibling;
    if (noted) undone.push([cell, from]);
    cell.place = place;
    byId(`group-${place}`).querySelector(".tiles").prepend(item);
    for (const at of [from, place]) showGroup(at);
    markTile(cell);
    touched();
    say(fill(t.moved_to, { cell: where(cell), place: name(place) }));
    choose(noted && next ? cellOf(next.firstElementChild) : cell);
  }

  function showGroup(place) {
    const n = cells.filter((cell) => cell.place === place).length;
    const group = byId(`group-${place}`);
    group.hidden = n === 0;
    group.querySelector(".total").textContent = n;
  }

  function markTile(cell) {
    const button = tile(cell);
    button.querySelector(".by-reader")?.remove();
    if (cell.place === cell.was) return;
    const mark = document.createElement("span");
    mark.className = "moved by-reader";
    mark.textContent = fill(t.read_as, { place: name(cell.place), was: name(cell.was) });
    button.querySelector(".where").before(mark);
  }

  function undo() {
    const last = undone.pop();
    if (last) move(last[0], last[1], false);
  }

  const cellOf = (button) => cells[Number(button.dataset.row) - 1];

  // --- saving --------------------------------------------------------------------------------------------------------

  const changes = () => cells.filter((cell) => cell.place !== cell.was || cell.comment !== cell.commentWas);

  function review() {
    return {
      schema: "wbctool-review/1",
      slide: data.slide,
      results: data.results,
      reader: byId("initials").value.trim(),
      time: new Date().toISOString(),
      comment: byId("slide-comment").value.trim(),
      cells: changes().map((cell) => ({
        row: cell.row, field: data.fields[cell.field], cell: cell.cell, from: cell.was, to: cell.place, comment: cell.comment,
      })),
    };
  }

  function save() {
    if (!byId("initials").value.trim()) {
      say(t.need_initials);
      byId("initials").focus();
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(review(), null, 1) + "\n"], { type: "application/json" }));
    link.download = "review.json";
    link.click();
    URL.revokeObjectURL(link.href);
    saved = true;
    say(t.saved);
  }

  function touched() {
    saved = false;
    byId("undo").disabled = undone.length === 0;
    showCounts();
  }

  function say(text) {
    const moved = cells.filter((cell) => cell.place !== cell.was).length;
    byId("state").textContent = `${text} (${t.changes}: ${moved}${saved ? "" : ", " + t.unsaved})`;
  }

  // --- setting up ----------------------------------------------------------------------------------------------------

  function addMoveButtons() {
    for (const [key, place] of [...Object.entries(KEYS)]) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.place = place;
      if (!isKnown(place)) button.title = t.unknown_class;
      for (const [tag, text, id] of [["kbd", key], ["span", name(place)], ["span", "", `count-${place}`]]) {
        const part = document.createElement(tag);
        part.textContent = text;
        if (id) [part.id, part.className] = [id, "count"];
        button.append(part);
      }
      button.disabled = true;
      button.addEventListener("click", () => chosen && move(chosen, place));
      byId("moves").append(button);
    }
  }

  // The neighbour of a tile in the direction of an arrow key: left and right in reading order, up and down by place.
  function neighbour(button, key) {
    const all = tiles(), at = all.indexOf(button);
    if (key === "ArrowLeft" || key === "ArrowRight") return all[at + (key === "ArrowRight" ? 1 : -1)];
    const here = button.getBoundingClientRect(), sign = key === "ArrowDown" ? 1 : -1;
    const beyond = all
      .map((other) => ({ other, box: other.getBoundingClientRect() }))
      .filter(({ box }) => sign * (box.top - here.top) > 4);
    const distance = ({ box }) => 10 * Math.abs(box.top - here.top) + Math.abs(box.left - here.left);
    return beyond.sort((a, b) => distance(a) - distance(b))[0]?.other;
  }

  function onKey(event) {
    const button = event.target.closest(".cell");
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key.startsWith("Arrow")) {
      const next = neighbour(button, event.key);
      if (next) choose(cellOf(next));
    } else if (KEYS[event.key.toLowerCase()]) {
      if (!event.repeat) { // a key held down must not name the cells that follow
        choose(cellOf(button));
        move(chosen, KEYS[event.key.toLowerCase()]);
      }
    } else return;
    event.preventDefault();
  }

  byId("panel").hidden = false;
  addMoveButtons();
  showCounts();
  const first = tiles()[0];
  for (const button of document.querySelectorAll(".cell")) {
    button.setAttribute("aria-pressed", "false");
    button.tabIndex = button === first ? 0 : -1;
  }
  byId("gallery").addEventListener("click", (event) => {
    const button = event.target.closest(".cell");
    if (button) choose(cellOf(button));
  });
  byId("gallery").addEventListener("keydown", onKey);
  byId("gallery").addEventListener("focusin", (event) => {
    const button = event.target.closest(".cell");
    if (button && cellOf(button) !== chosen) choose(cellOf(button), false);
  });
  byId("cell-comment").addEventListener("input", (event) => {
    chosen.comment = event.target.value;
    saved = false;
  });
  byId("slide-comment").addEventListener("input", () => (saved = false));
  byId("show-attention").addEventListener("change", showAttention);
  byId("undo").addEventListener("click", undo);
  byId("save").addEventListener("click", save);
  byId("reader").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("beforeunload", (event) => {
    if (!saved) event.preventDefault();
  });
})();
