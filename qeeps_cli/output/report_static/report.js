// Filters, enlarges and judges the matches that the page already holds. Without it the page is complete but still.
(() => {
  const SCHEMA = "qeeps.verdicts/1";
  const VERDICTS = { accept: "accepted", reject: "rejected" };
  const data = JSON.parse(byId("data").textContent);
  const items = [];  // every match of the page, in its order
  const history = [];  // what undo takes back: lists of [item, verdict before]
  let current = null;  // the item that the keys act on
  let looked = null;  // the item in the closer look
  let storageWorks = true;
  let unsaved = false;

  data.searches.forEach((search, number) => {
    search.section = byId(`s${number + 1}`);
    search.nothing = byId(`n${number + 1}`);
    search.verdicts = load(search);
    search.section.querySelector(".query-open").addEventListener("click", () => openQuery(search));
    search.items = search.matches.map((match) => makeItem(search, match, byId(`m${number + 1}-${match.rank}`)));
    items.push(...search.items);
    search.timeline = makeTimeline(search, (label) => showSighting(search, label));
  });

  // Verdicts

  function makeItem(search, match, card) {
    const item = { search, match, card, open: card.querySelector(".open"), visible: true };
    for (const kind of ["accept", "reject"]) {
      item[kind] = card.querySelector(`.${kind}`);
      item[kind].addEventListener("click", () => { select(item); toggle(item, VERDICTS[kind]); });
    }
    card.querySelector(".choice").hidden = false;
    item.open.addEventListener("focus", () => select(item, false));
    item.open.addEventListener("click", () => { select(item); openMatch(item); });
    return item;
  }

  function verdictOf(item) {
    return item.search.verdicts[item.match.rank] || null;
  }

  function change(changes) {
    const before = changes.map(([item]) => [item, verdictOf(item)]);
    apply(changes);
    history.push(before);
    update();
  }

  function apply(changes) {
    for (const [item, verdict] of changes) {
      if (verdict) item.search.verdicts[item.match.rank] = verdict;
      else delete item.search.verdicts[item.match.rank];
      showVerdict(item);
    }
    unsaved = true;
    new Set(changes.map(([item]) => item.search)).forEach(save);
  }

  function toggle(item, verdict) {
    const wanted = verdictOf(item) === verdict ? null : verdict;
    change([[item, wanted]]);
    say(`Match ${item.match.rank} ${wanted || "not judged"}`);
  }

  function judgeAndGoOn(verdict) {
    if (!current) return;
    const judged = current;
    const next = neighbour(1);
    change([[judged, verdict]]);
    say(`Match ${judged.match.rank} ${verdict}`);
    if (next) go(next);
    else if (isOpen()) openMatch(judged);
  }

  function undo() {
    const last = history.pop();
    if (!last) return say("Nothing to undo");
    apply(last);
    update();
    const [item] = last[0];
    if (item.visible) go(item);
    say(last.length === 1 ? `Match ${item.match.rank} ${verdictOf(item) || "not judged"} again` : "Undone");
  }

  function showVerdict(item) {
    const verdict = verdictOf(item);
    for (const kind of ["accept", "reject"]) item[kind].setAttribute("aria-pressed", String(verdict === VERDICTS[kind]));
    paint(item.card, verdict);
    item.card.querySelector(".verdict").textContent = wording(verdict);
  }

  function paint(element, verdict) {
    for (const name of Object.values(VERDICTS)) element.classList.toggle(`is-${name}`, verdict === name);
  }

  function wording(verdict) {
    return { accepted: "\u2713 accepted", rejected: "\u2717 rejected" }[verdict] || "";
  }

  // What the browser keeps, by the digest of the result; of several searches also by the id: two may be of one query

  function keyOf(search) {
    return `${SCHEMA}:${search.result}${search.id ? `:${search.id}` : ""}`;
  }

  function load(search) {
    try {
      const kept = JSON.parse(localStorage.getItem(keyOf(search)) || "{}");
      return Object.fromEntries(Object.entries(kept).filter(([, verdict]) => isVerdict(verdict)));
    } catch {
      storageWorks = false;
      return {};
    }
  }

  function save(search) {
    try {
      if (Object.keys(search.verdicts).length) localStorage.setItem(keyOf(search), JSON.stringify(search.verdicts));
      else localStorage.removeItem(keyOf(search));
    } catch {
      storageWorks = false;
    }
  }

  function isVerdict(value) {
    return Object.values(VERDICTS).includes(value);
  }

  // Export and import

  function exported() {
    const searches = data.searches.map((search) => ({
      id: search.id,
      result: search.result,
      query: search.query,
      weights: search.weights,
      mode: search.mode,
      verdicts: search.items.filter(verdictOf).map((item) => {
        const { rank, image, box, score, person_score } = item.match;
        return { rank, image, box, score, person_score, verdict: verdictOf(item) };
      }),
    }));
    return { schema: SCHEMA, searches: searches.filter((search) => search.verdicts.length) };
  }

  function download() {
    const link = document.createElement("a");
    const blob = new Blob([`${JSON.stringify(exported(), null, 2)}\n`], { type: "application/json" });
    link.href = URL.createObjectURL(blob);
    link.download = `qeeps-verdicts-${data.searches.length === 1 ? data.searches[0].result.slice(0, 8) : "all"}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
    say(`Saved as ${link.download}`);
  }

  async function importFile(file) {
    let document_;
    try {
      document_ = JSON.parse(await file.text());
      if (document_.schema !== SCHEMA || !Array.isArray(document_.searches)) throw new Error("schema");
    } catch {
      return say(`${file.name} holds no verdicts: expected JSON of schema ${SCHEMA}, as this page exports it.`);
    }
    const changes = [];
    let foreign = 0;
    for (const source of document_.searches) {
      const search = searchOf(source);
      for (const entry of Array.isArray(source?.verdicts) ? source.verdicts : []) {
        const item = search && isVerdict(entry?.verdict) && search.items.find((one) => isSameMatch(one.match, entry));
        if (item) changes.push([item, entry.verdict]);
        else foreign += 1;
      }
    }
    if (changes.length) change(changes);
    const rest = foreign ? `; ${foreign} of matches that this page does not hold` : "";
    say(`${count(changes.length, "verdict")} imported${rest}`);
  }

  // The same result; or the same person searched for with the same weights, say in a gallery that has grown. Where
  // several searches fit, because they are of one query, that of the same id.
  function searchOf(source) {
    const same = data.searches.filter((search) => search.result === source?.result);
    const fitting = same.length ? same : data.searches.filter((search) => isSamePerson(search, source));
    return fitting.find((search) => search.id === source.id) || fitting[0];
  }

  function isSamePerson(search, source) {
    const digest = search.query.digest;
    return Boolean(digest) && source?.query?.digest === digest && source?.weights?.digest === search.weights.digest &&
      isEqual(source.query.box, search.query.box);
  }

  function isSameMatch(match, entry) {
    return match.image === entry.image && isEqual(match.box, entry.box);
  }

  function isEqual(one, other) {
    return JSON.stringify(one) === JSON.stringify(other);
  }

  // What is shown

  function update() {
    const threshold = Number(byId("threshold").value);
    const wanted = byId("shown").value;
    const bestOnly = byId("best").checked;
    byId("threshold-value").textContent = threshold.toFixed(2);
    for (const item of items) {
      const verdict = verdictOf(item);
      const fits = wanted === "all" || wanted === (verdict || "open");
      item.visible = fits && item.match.score >= threshold && (!bestOnly || item.match.best) && item.search.timeline.shows(item.match);
      item.card.hidden = !item.visible;
    }
    for (const search of data.searches) {
      const best = Math.max(...search.matches.map((match) => match.score));
      search.timeline.paint(search.verdicts);
      search.nothing.hidden = !search.items.length || search.items.some((item) => item.visible);
      search.nothing.textContent = !search.matches.some((match) => search.timeline.shows(match))
        ? "This page holds no match of that sighting: qeeps report --matches N shows more."
        : best < threshold
        ? `No match scores ${threshold.toFixed(2)} or more; the best scores ${best.toFixed(3)}.`
        : "No match is shown with these filters.";
    }
    const tally = (verdict) => items.filter((item) => verdictOf(item) === verdict).length;
    const shown = items.filter((item) => item.visible).length;
    byId("counts").textContent =
      `${shown} of ${items.length} shown \u00b7 ${tally("accepted")} accepted \u00b7 ${tally("rejected")} rejected`;
    byId("undo").disabled = !history.length;
    byId("clear").disabled = byId("export").disabled = !items.some(verdictOf);
    if (current && !current.visible && !isOpen()) select(null);
  }

  // label: of the sighting that was chosen in the timeline; null: all are shown again.
  function showSighting(search, label) {
    update();
    const best = label && search.items.find((item) => item.visible);
    if (best) select(best, false);  // the timeline stays in view, for the next look at it
    say(label ? `Only the sighting ${label}` : "All sightings");
  }

  function say(text) {
    const warning = storageWorks ? "" : "This browser keeps no verdicts for this page: export them before you leave. ";
    byId("message").textContent = warning + text;
  }

  function count(number, noun) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
  }

  // Moving

  function select(item, scroll = true) {
    if (current) { current.card.classList.remove("current"); current.card.removeAttribute("aria-current"); }
    current = item;
    if (!item) return;
    item.card.classList.add("current");
    item.card.setAttribute("aria-current", "true");
    if (scroll) item.card.scrollIntoView({ block: "nearest" });
  }

  function go(item) {
    if (!item) return;
    select(item);
    if (isOpen()) openMatch(item);
    else item.open.focus({ preventScroll: true });
  }

  function neighbour(step) {
    const start = current ? items.indexOf(current) + step : 0;
    for (let i = start; i >= 0 && i < items.length; i += step) if (items[i].visible) return items[i];
    return null;
  }

  // The card above or below: in the nearest row that way, the nearest to the side.
  function inRow(step) {
    if (!current || isOpen()) return neighbour(step);
    const here = current.card.getBoundingClientRect();
    const away = (item) => {
      const there = item.card.getBoundingClientRect();
      return [step * (there.top - here.top), Math.abs(there.left - here.left)];
    };
    const others = items.filter((item) => item.visible).map((item) => [...away(item), item]).filter(([down]) => down > 1);
    others.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    return others.length ? others[0][2] : null;
  }

  const KEYS = {
    j: () => go(neighbour(1)), ArrowRight: () => go(neighbour(1)), k: () => go(neighbour(-1)), ArrowLeft: () => go(neighbour(-1)),
    ArrowDown: () => go(inRow(1)), ArrowUp: () => go(inRow(-1)),
    a: () => judgeAndGoOn("accepted"), r: () => judgeAndGoOn("rejected"), u: undo,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (isOpen() && closer.classList.contains("of-query"))) return;
    event.preventDefault();
    action();
  });

  // A closer look

  const closer = byId("closer");

  function isOpen() {
    return closer.open;
  }

  function openMatch(item) {
    looked = item;
    const { match, search } = item;
    const verdict = verdictOf(item);
    byId("closer-title").textContent = `Match ${match.rank}, score ${match.score.toFixed(3)}`;
    byId("closer-verdict").textContent = wording(verdict);
    paint(byId("closer-verdict"), verdict);
    for (const kind of ["accept", "reject"]) byId(`closer-${kind}`).setAttribute("aria-pressed", String(verdict === VERDICTS[kind]));
    byId("closer-before").disabled = !neighbour(-1);
    byId("closer-after").disabled = !neighbour(1);
    const facts = [["Score", match.score], ["Person score", match.person_score], ["Box x, y, w, h", match.box.join(", ")],
      ["Frame", item.card.querySelector(".name").textContent], ["File", item.card.querySelector(".file").textContent]];
    const query = search.section.querySelector(".query-open");
    show(item.open, match, facts, [["Query", query], [`Match ${match.rank}`, item.open]]);
  }

  function openQuery(search) {
    looked = null;
    byId("closer-title").textContent = "The person searched for";
    byId("closer-verdict").textContent = "";
    const facts = [...search.section.querySelectorAll(".query dl div")].map((row) => [...row.children].map((cell) => cell.textContent));
    show(search.section.querySelector(".query-open"), { box: search.query.box, large: search.large }, facts, []);
  }

  function show(button, person, facts, pair) {
    const isQuery = !pair.length;
    closer.classList.toggle("of-query", isQuery);
    byId("closer-foot").hidden = isQuery;
    byId("stage").replaceChildren(...stage(button, person, isQuery));
    byId("closer-facts").replaceChildren(...pairOf(pair), ...facts.map(([name, text]) => make("div", "", make("dt", "", name), make("dd", "", make("bdi", "", String(text))))));
    if (!closer.open) closer.showModal();
  }

  function stage(button, person, isQuery) {
    const frame = data.frames[person.large];
    if (!frame) {
      const crop = copyOf(button);
      crop.classList.add("enlarged");
      return [crop, make("p", "hint", "The page does not hold this frame whole.")];
    }
    const picture = make("img");
    picture.alt = "The whole frame";
    picture.width = frame.width;
    picture.height = frame.height;
    picture.src = frame.src;
    return [make("div", `frame${isQuery ? " of-query" : ""}`, picture, ...(person.box ? [outline(frame, person.box)] : []))];
  }

  function outline(frame, [x, y, width, height]) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    svg.setAttribute("aria-hidden", "true");
    for (const name of ["halo", "line"]) {
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      for (const [key, value] of Object.entries({ class: name, x, y, width, height })) rect.setAttribute(key, value);
      svg.append(rect);
    }
    return svg;
  }

  function pairOf(pair) {
    if (!pair.length) return [];
    return [make("div", "pair", ...pair.map(([name, button]) => make("figure", "", copyOf(button), make("figcaption", "", name))))];
  }

  function copyOf(button) {
    return button.firstElementChild.cloneNode(true);
  }

  function make(tag, name = "", ...children) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  }

  function byId(id) {
    return document.getElementById(id);
  }

  // Controls

  for (const id of ["threshold", "shown", "best"]) byId(id).addEventListener("input", update);
  byId("undo").addEventListener("click", undo);
  byId("clear").addEventListener("click", () => {
    change(items.filter(verdictOf).map((item) => [item, null]));
    say("All verdicts cleared; Undo brings them back");
  });
  byId("export").addEventListener("click", download);
  byId("import").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) await importFile(file);
    event.target.value = "";
  });
  byId("closer-close").addEventListener("click", () => closer.close());
  byId("closer-before").addEventListener("click", () => go(neighbour(-1)));
  byId("closer-after").addEventListener("click", () => go(neighbour(1)));
  for (const kind of ["accept", "reject"]) {
    byId(`closer-${kind}`).addEventListener("click", () => { toggle(current, VERDICTS[kind]); openMatch(current); });
  }
  closer.addEventListener("click", (event) => { if (event.target === closer) closer.close(); });
  closer.addEventListener("close", () => {
    byId("stage").replaceChildren();
    // The browser has put the focus back to where the look began, which may be some matches ago.
    if (looked) select(looked);
    update();
    if (current) current.open.focus({ preventScroll: true });
  });
  window.addEventListener("beforeunload", (event) => { if (!storageWorks && unsaved) event.preventDefault(); });

  const bar = byId("bar");
  bar.hidden = false;
  new ResizeObserver(() => {
    const height = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    document.documentElement.style.setProperty("--bar", `${height}px`);
  }).observe(bar);
  items.forEach(showVerdict);
  update();
  if (!storageWorks) say("");
})();
