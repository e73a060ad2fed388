"use strict";
for (const root of document.querySelectorAll(".root")) {
  const lifetimes = [...root.querySelectorAll("[data-first]")];
  const buttons = [...root.querySelectorAll("[data-step]")];
  const choose = (chosen) => {
    const step = Number(chosen.dataset.step);
    for (const each of lifetimes) {
      const { first, last } = each.dataset;
      each.hidden = step < Number(first) || (last !== "" && step > Number(last));
    }
    for (const each of buttons) each.removeAttribute("aria-current");
    chosen.setAttribute("aria-current", "step");
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const next = buttons[index + ({ ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0)];
      if (next === undefined || next === button) return;
      event.preventDefault();
      next.focus();
      choose(next);
    });
  });
}
