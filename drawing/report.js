"use strict";
// What the report can do beyond being read: sort its tables, enlarge its figures, open what is folded for print.
// It makes all buttons itself, so that without it there are none that do nothing.

const make = (tag, about) => Object.assign(document.createElement(tag), about);
const button = (kind, label) => make("button", { type: "button", className: kind, textContent: label });

// ------------------------------------------------------------ tables

// The number that a cell begins with, as in "+0.320", "[0.1, 0.2]", "42/64", "< .001"; NaN if there is none.
const number = (text) => parseFloat((/^[<[\s]*([-+]?[\d,]*\.?\d+)/.exec(text)?.[1] ?? "").replaceAll(",", ""));

// Cells that were not measured stay last in either direction.
function compare(a, b, areNumbers, sign) {
  const isEmpty = (text) => text === "" || text === "\u2013";
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  return sign * (areNumbers ? number(a) - number(b) : a < b ? -1 : a > b ? 1 : 0);
}

function makeSortable(table) {
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  const sort = (column, order) => {
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
    const areNumbers = [...texts.values()].every((text) => text === "\u2013" || text === "" || !isNaN(number(text)));
    const sign = { ascending: 1, descending: -1 }[order];
    const sorted = order ? [...rows].sort((a, b) => compare(texts.get(a), texts.get(b), areNumbers, sign)) : rows;
    table.tBodies[0].append(...sorted);
  };
  heads.forEach((head, column) => {
    const press = button("sort", head.textContent);
    head.replaceChildren(press);
    press.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }; // a third time: as the page had it
      const before = head.getAttribute("aria-sort"), order = before ? next[before] : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      sort(column, order);
    });
  });
}

document.querySelectorAll("table").forEach(makeSortable);

// ------------------------------------------------------------ figures

// A dialog closes by Escape and by its button, and gives the focus back to what opened it.
const dialog = make("dialog", {});
document.body.append(dialog);

function enlarge(plot, keys) {
  const close = button("close", "Close");
  close.addEventListener("click", () => dialog.close());
  const frame = make("div", { className: "large", tabIndex: 0 });
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "The figure, enlarged");
  frame.append(plot.cloneNode());
  dialog.setAttribute("aria-label", plot.alt);
  const both = make("div", { className: "both" });
  both.append(...keys.map((key) => key.cloneNode()), frame);
  dialog.replaceChildren(close, both);
  dialog.showModal();
}

document.querySelectorAll(".group").forEach((group) => {
  group.querySelectorAll("img.plot").forEach((plot) => {
    const press = button("enlarge", "");
    plot.replaceWith(press);
    press.append(plot, make("span", { textContent: "enlarge" }));
    press.addEventListener("click", () => enlarge(plot, [...group.querySelectorAll("img.key")]));
  });
});

// ------------------------------------------------------------ frames, folds

// A frame says that it can be scrolled if it can.
const look = () =>
  document.querySelectorAll(".scroll, .frame").forEach((frame) => {
    frame.classList.toggle("fits", frame.scrollWidth <= frame.clientWidth);
  });
addEventListener("resize", look);
document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", look));
document.querySelectorAll("img").forEach((image) => image.addEventListener("load", look));
look();

// What a link leads to is opened; in print everything is, and after it all is as it was.
function unfold() {
  document.getElementById(location.hash.slice(1))?.querySelector("details")?.setAttribute("open", "");
}
addEventListener("hashchange", unfold);
unfold();
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((fold) => fold.setAttribute("open", ""));
});
addEventListener("afterprint", () => closed.forEach((fold) => fold.removeAttribute("open")));
