// Keyboard, dialogs, panel, toasts and ages: what every page does without asking the server.
(() => {
  "use strict";
  const root = document.documentElement;
  const lang = root.lang;
  root.classList.add("scripted");

  const isTyping = (element) => element.matches("input, textarea, select, [contenteditable]");
  const rows = () => [...document.querySelectorAll("[data-rows] [tabindex]")].filter((row) => row.offsetParent);
  const panel = document.getElementById("panel");

  function moveRow(step) {
    const all = rows();
    if (!all.length) return;
    const here = all.indexOf(document.activeElement.closest("[data-rows] [tabindex]"));
    all[Math.max(0, Math.min(all.length - 1, here < 0 ? 0 : here + step))].focus();
  }

  function closePanel() {
    panel.hidden = true;
    panel.replaceChildren();
    opener?.focus();
  }
  let opener = null;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (event.key === "Escape") {
      if (document.querySelector("dialog[open]")) return; // The browser closes it.
      if (!panel.hidden) closePanel();
      else if (isTyping(target)) target.blur();
      else if (document.referrer.startsWith(location.origin)) history.back();
      return;
    }
    if (isTyping(target) || document.querySelector("dialog[open]")) return;
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    } else if (event.key === "j") moveRow(1);
    else if (event.key === "k") moveRow(-1);
    else if (event.key === "Enter" && target.matches("[data-rows] [tabindex]")) target.querySelector("a, button")?.click();
    else if (event.key === "?") document.getElementById("keys").showModal();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open], [data-close-panel], [data-dismiss], [data-copy]");
    if (!button) return;
    if (button.dataset.open) document.getElementById(button.dataset.open)?.showModal();
    else if ("closePanel" in button.dataset) closePanel();
    else if ("dismiss" in button.dataset) button.closest(".toast").remove();
    else if (button.dataset.copy) navigator.clipboard.writeText(button.dataset.copy).then(() => button.append(" ✓"));
  });

  document.addEventListener("change", (event) => event.target.closest("form[data-autosubmit]")?.requestSubmit());

  // A fragment that lands in the panel opens it.
  new MutationObserver(() => {
    if (panel.hidden && panel.childElementCount) {
      opener = document.activeElement;
      panel.hidden = false;
      panel.querySelector("a, button, input")?.focus();
    }
  }).observe(panel, { childList: true });

  // Figures older than a minute say how old they are. An age is real time; a simulated date has none.
  const relative = new Intl.RelativeTimeFormat(lang, { numeric: "always" });
  function showAges() {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
      const mark = time.nextElementSibling?.matches(".age") ? time.nextElementSibling : null;
      if (!(seconds > 60) || document.querySelector(".band.warn")) { mark?.remove(); continue; }
      const [amount, unit] = seconds < 3600 ? [seconds / 60, "minute"] : seconds < 86400 ? [seconds / 3600, "hour"] : [seconds / 86400, "day"];
      const text = ` (${relative.format(-Math.round(amount), unit)})`;
      if (mark) mark.textContent = text;
      else time.insertAdjacentElement("afterend", Object.assign(document.createElement("span"), { className: "age", textContent: text }));
    }
  }
  showAges();
  setInterval(showAges, 10_000);

  // htmx looks at the page on its own timer, which may run before its SSE extension has arrived over a
  // slow line; now that every script has run, it looks again.
  document.addEventListener("DOMContentLoaded", () => window.htmx?.process(document.body));
})();
