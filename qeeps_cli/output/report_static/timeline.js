"use strict";
// The timeline of a search: one bar of it is in the tab order, arrows go from bar to bar, and the bar that is chosen says
// which matches are shown. Without it the bars are links.
function makeTimeline(search, changed) {
  const root = search.section.querySelector(".timeline");
  const bars = root ? [...root.querySelectorAll(".sighting")] : [];
  const all = root?.querySelector(".all-matches");
  const held = new Set(search.matches.map((match) => match.rank));
  const timeline = { chosen: null, shows, paint };
  const lanes = [...new Set(bars.map((bar) => bar.parentNode))].map((lane) => bars.filter((bar) => bar.parentNode === lane));

  for (const bar of bars) {
    bar.setAttribute("tabindex", "-1");
    bar.addEventListener("click", (event) => {
      event.preventDefault();
      choose(bar.hasAttribute("aria-current") ? null : bar);
    });
    bar.addEventListener("focus", () => enter(bar));
  }
  if (bars.length) enter(bars[0]);
  all?.addEventListener("click", () => choose(null));
  root?.addEventListener("keydown", (event) => {
    const bar = event.target.closest?.(".sighting");
    const action = bar && { ArrowLeft: () => step(bar, -1), ArrowRight: () => step(bar, 1), ArrowUp: () => change(bar, -1),
      ArrowDown: () => change(bar, 1), " ": () => choose(bar), Escape: () => choose(null) }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });

  function sightingOf(bar) {
    return search.sightings[Number(bar.dataset.sighting)];
  }

  // Whether a match is shown as far as the timeline says.
  function shows(match) {
    return !timeline.chosen || timeline.chosen.ranks.includes(match.rank);
  }

  function choose(bar) {
    bars.forEach((one) => one.removeAttribute("aria-current"));
    bar?.setAttribute("aria-current", "true");
    if (bar) enter(bar);
    if (!bar && document.activeElement === all) bars.find((one) => one.tabIndex === 0).focus();
    all.hidden = !bar;
    timeline.chosen = bar ? sightingOf(bar) : null;
    changed(bar ? bar.getAttribute("aria-label") : null);
  }

  function enter(bar) {
    bars.forEach((one) => one.setAttribute("tabindex", one === bar ? "0" : "-1"));
  }

  function step(bar, by) {
    const next = lanes.flat()[lanes.flat().indexOf(bar) + by];
    next?.focus();
  }

  // The bar of the lane above or below that begins nearest.
  function change(bar, by) {
    const lane = lanes[lanes.findIndex((one) => one.includes(bar)) + by];
    const left = (one) => one.getBoundingClientRect().left;
    const nearest = [...(lane || [])].sort((a, b) => Math.abs(left(a) - left(bar)) - Math.abs(left(b) - left(bar)))[0];
    nearest?.focus();
  }

  // Verdicts: by rank, "accepted" or "rejected". A sighting is accepted with any of its matches, rejected with all that
  // the page holds.
  function paint(verdicts) {
    for (const bar of bars) {
      const given = sightingOf(bar).ranks.filter((rank) => held.has(rank)).map((rank) => verdicts[rank]);
      const accepted = given.includes("accepted");
      bar.classList.toggle("is-accepted", accepted);
      bar.classList.toggle("is-rejected", given.length > 0 && given.every((verdict) => verdict === "rejected"));
    }
  }

  return timeline;
}

