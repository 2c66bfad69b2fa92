"use strict";
// The page is complete without this; it adds sorting, the image viewer, values to point at, and the choice of colours.

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function choice(text, options, chosen, onChange) {
  const select = make("select");
  for (const option of options) select.append(make("option", {}, option));
  select.value = chosen;
  select.addEventListener("change", () => onChange(select.value));
  return make("label", {}, `${text} `, select);
}

/* Colours: the system's setting, until the button is pressed. */
function colours() {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = make("button", { type: "button", id: "theme" });
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();
  document.querySelector("nav").append(button);
}

/* Tables: every head sorts its column. */
const FACTORS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };

function numberIn(text) {
  const found = /^([+\u2212-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?: ([kMGT]))?$/.exec(text);
  return found ? Number(found[1].replace("\u2212", "-").replaceAll(",", "")) * (FACTORS[found[2]] || 1) : NaN;
}

function compare(one, other) {
  const [a, b] = [numberIn(one), numberIn(other)];
  if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
  return Number.isNaN(a) ? one.localeCompare(other, "en", { numeric: true }) : a - b;
}

function sortable(table) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  if (table.tBodies[0].rows.length < 2) return;
  heads.forEach((head, index) => {
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    if (!button.textContent) button.textContent = "name";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const text = (row) => row.cells[index].textContent.trim();
      const absent = (row) => (/^\u2013?$/.test(text(row)) ? 1 : 0);
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, other) => absent(one) - absent(other) || (up ? 1 : -1) * compare(text(one), text(other)));
      table.tBodies[0].append(...rows);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}

/* Costs: one measure over one cost at a time. */
function costs() {
  const charts = [...byId("cost-charts").children];
  const names = (key) => [...new Set(charts.map((chart) => chart.dataset[key]))];
  const chosen = { measure: names("measure")[0], cost: names("cost")[0] };
  const show = () => {
    for (const chart of charts) chart.hidden = Object.keys(chosen).some((key) => chart.dataset[key] !== chosen[key]);
  };
  const bar = make("div", { class: "bar" });
  for (const key of Object.keys(chosen)) {
    bar.append(choice(key === "measure" ? "Show" : "over", names(key), chosen[key], (value) => { chosen[key] = value; show(); }));
  }
  byId("cost-charts").before(bar);
  show();
}

/* Charts: show the value nearest to the pointer, or move through them with the arrow keys. */
function values() {
  const tip = make("div", { class: "tip", role: "status" });
  tip.hidden = true;
  document.body.append(tip);
  const hide = (chart) => {
    tip.hidden = true;
    chart.querySelector(".shown")?.classList.remove("shown");
  };
  const show = (chart, hit) => {
    hide(chart);
    hit.classList.add("shown");
    tip.textContent = hit.textContent;
    tip.hidden = false;
    const box = hit.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - tip.offsetWidth / 2, 4), document.documentElement.clientWidth - tip.offsetWidth - 4);
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(box.top > tip.offsetHeight + 12 ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + scrollY}px`;
  };
  for (const chart of document.querySelectorAll("svg.chart")) {
    const hits = [...chart.querySelectorAll(".hits circle")];
    // The browser's own tips would cover these.
    for (const hit of hits) hit.replaceChildren(document.createTextNode(hit.textContent));
    let at = -1;
    const go = (index) => {
      at = Math.min(Math.max(index, 0), hits.length - 1);
      show(chart, hits[at]);
    };
    chart.tabIndex = 0;
    chart.addEventListener("pointermove", (event) => {
      const far = hits.map((hit) => {
        const box = hit.getBoundingClientRect();
        return Math.hypot(box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY);
      });
      const nearest = far.indexOf(Math.min(...far));
      if (far[nearest] < 40) go(nearest);
      else hide(chart);
    });
    for (const kind of ["pointerleave", "blur"]) chart.addEventListener(kind, () => { at = -1; hide(chart); });
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") hide(chart);
      if (!step) return;
      event.preventDefault();
      go(at + step);
    });
  }
}

/* Viewer: one image at a time; every panel shows the same part of it. */
const PICTURE = "picture";
const ERROR = "error against the clean image";
const DISTANCE = "distance from the teacher";
const LUMA = [65.481 / 255, 128.553 / 255, 24.966 / 255];

function viewer() {
  const shots = [...document.querySelectorAll(".shot")];
  if (!shots.length) return;
  const scale = document.querySelector(".scale");
  const largest = Number(scale.dataset.largest);
  const state = { shot: null, mode: PICTURE, left: "", right: "", share: 0.5, x: 0, y: 0, zoom: 1, width: 0, height: 0 };
  let colourOf = null;
  let viewports = [];

  const reading = make("output", { class: "reading" });
  const stage = viewport("stage");
  const [under, over] = [make("canvas"), make("canvas", { class: "over" })];
  const divider = make("div", { class: "divider" });
  const names = [make("span", { class: "tag left" }), make("span", { class: "tag right" })];
  stage.append(under, over, divider, ...names);
  const slider = make("input", { type: "range", min: "0", max: "1000", value: "500", "aria-label": "where the left image ends and the right one begins" });
  const panels = make("div", { class: "panels views" });
  const bar = make("div", { class: "bar" });
  const legend = scale.cloneNode(true);
  const box = make("div", { class: "viewer" }, bar, stage, slider, legend, reading, panels);
  shots[0].before(box);
  for (const shot of shots) shot.hidden = true;

  slider.addEventListener("input", () => { state.share = slider.value / 1000; place(); });
  divider.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    divider.setPointerCapture(event.pointerId);
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const frame = stage.getBoundingClientRect();
    state.share = Math.min(Math.max((event.clientX - frame.left) / frame.width, 0), 1);
    slider.value = String(Math.round(1000 * state.share));
    place();
  });

  function viewport(kind) {
    const element = make("div", { class: `viewport ${kind}` });
    const held = new Map();
    element.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, event);
      if (state.zoom > 1) element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const fit = element.clientWidth / state.width;
      const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
      if (other) {
        const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
        zoom(state.zoom * far(event) / far(before));
      } else {
        state.x -= (event.clientX - before.clientX) / (fit * state.zoom);
        state.y -= (event.clientY - before.clientY) / (fit * state.zoom);
      }
      held.set(event.pointerId, event);
      place();
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(end, (event) => held.delete(event.pointerId));
    }
    element.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== element) return;
      event.preventDefault();
      const frame = element.getBoundingClientRect();
      zoom(state.zoom * Math.exp(-event.deltaY / 300), (event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height);
    }, { passive: false });
    element.addEventListener("dblclick", () => zoom(state.zoom * 2));
    element.tabIndex = 0;
    element.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (move) {
        state.x += move[0] * state.width / (10 * state.zoom);
        state.y += move[1] * state.height / (10 * state.zoom);
        place();
      } else if (event.key === "+" || event.key === "=") zoom(state.zoom * 1.5);
      else if (event.key === "-") zoom(state.zoom / 1.5);
      else if (event.key === "0") zoom(1);
      else return;
      event.preventDefault();
    });
    return element;
  }

  /* Zoom around a point of the viewport, given as fractions of its width and height. */
  function zoom(wanted, across = 0.5, down = 0.5) {
    const next = Math.min(Math.max(wanted, 1), 32);
    const [w, h] = [state.width, state.height];
    state.x += (across - 0.5) * w * (1 / state.zoom - 1 / next);
    state.y += (down - 0.5) * h * (1 / state.zoom - 1 / next);
    state.zoom = next;
    place();
  }

  /* Move every canvas to where the state says. */
  function place() {
    const inside = (value, length) => Math.min(Math.max(value, length / (2 * state.zoom)), length - length / (2 * state.zoom));
    state.x = inside(state.x, state.width);
    state.y = inside(state.y, state.height);
    for (const element of viewports) {
      const size = (element.clientWidth / state.width) * state.zoom;
      const move = [element.clientWidth / 2 - state.x * size, element.clientHeight / 2 - state.y * size];
      for (const canvas of element.querySelectorAll("canvas")) {
        canvas.style.transform = `translate(${move[0]}px, ${move[1]}px) scale(${size})`;
        canvas.style.imageRendering = size >= 1.5 ? "pixelated" : "auto";
      }
      element.style.touchAction = state.zoom > 1 ? "none" : "pan-y";
    }
    // The left edge of what is shown to the right of the slider, in the canvas's own pixels.
    const shown = state.x + ((state.share - 0.5) * state.width) / state.zoom;
    over.style.clipPath = `inset(0 0 0 ${shown}px)`;
    divider.style.left = `${100 * state.share}%`;
    const times = (stage.clientWidth / state.width) * state.zoom;
    reading.textContent = `${times.toFixed(2)} screen pixels per pixel, centre at row ${Math.round(state.y)}, column ${Math.round(state.x)}`;
  }

  function pixels(name) {
    const figure = [...state.shot.querySelectorAll("figure")].find((one) => one.dataset.name === name);
    const canvas = make("canvas");
    canvas.width = state.width;
    canvas.height = state.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.drawImage(figure.querySelector("img"), 0, 0, state.width, state.height);
    return context.getImageData(0, 0, state.width, state.height);
  }

  /* Levels of luma at the light end; networks differ less from each other than from the clean image. */
  const lightest = () => (state.mode === DISTANCE ? largest / 4 : largest);

  /* A version of the image as the mode shows it. */
  function paint(canvas, name) {
    canvas.width = state.width;
    canvas.height = state.height;
    const image = pixels(name);
    if (state.mode !== PICTURE) {
      const other = pixels(state.mode === ERROR ? "clean" : "teacher").data;
      const data = image.data;
      for (let index = 0; index < data.length; index += 4) {
        let error = 0;
        for (let part = 0; part < 3; part += 1) error += LUMA[part] * (data[index + part] - other[index + part]);
        const level = Math.round(Math.min(Math.abs(error) / lightest(), 1) * 255) * 4;
        for (let part = 0; part < 3; part += 1) data[index + part] = colourOf[level + part];
      }
    }
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
  }

  function show() {
    paint(under, state.left);
    paint(over, state.right);
    names[0].textContent = state.left;
    names[1].textContent = state.right;
    for (const element of viewports.slice(1)) paint(element.querySelector("canvas"), element.dataset.name);
    legend.hidden = state.mode === PICTURE;
    legend.lastChild.textContent = ` ${lightest()} levels of luma or more`;
    place();
  }

  async function open(key) {
    const shot = shots.find((one) => one.dataset.key === key);
    const images = [...shot.querySelectorAll("img"), scale.querySelector("img")];
    for (const image of images) image.loading = "eager";
    await Promise.all(images.map((image) => image.decode()));
    if (!colourOf) {
      const canvas = make("canvas");
      [canvas.width, canvas.height] = [256, 1];
      canvas.getContext("2d").drawImage(scale.querySelector("img"), 0, 0);
      colourOf = canvas.getContext("2d").getImageData(0, 0, 256, 1).data;
    }
    const figures = [...shot.querySelectorAll("figure")];
    const known = figures.map((one) => one.dataset.name);
    state.shot = shot;
    [state.width, state.height] = [Number(shot.dataset.width), Number(shot.dataset.height)];
    [state.x, state.y, state.zoom] = [state.width / 2, state.height / 2, 1];
    const students = known.slice(2, -2);
    if (!known.includes(state.left)) state.left = students[students.length - 1];
    if (!known.includes(state.right)) state.right = "teacher";
    panels.replaceChildren();
    viewports = [stage];
    for (const figure of figures) {
      const element = viewport("view");
      element.dataset.name = figure.dataset.name;
      element.setAttribute("aria-label", `${figure.dataset.name}; arrows move, + and - zoom, 0 shows all`);
      element.append(make("canvas"));
      const score = figure.dataset.psnr ? `${figure.dataset.psnr} dB / ${figure.dataset.ssim}` : "";
      panels.append(make("figure", {}, element, make("figcaption", {}, make("b", {}, figure.dataset.name), make("span", { class: "reading" }, score))));
      viewports.push(element);
    }
    for (const element of viewports) element.style.aspectRatio = `${state.width} / ${state.height}`;
    const set = (key_) => (value) => { state[key_] = value; show(); };
    const press = (text, told, act) => {
      const button = make("button", { type: "button", "aria-label": told }, text);
      button.addEventListener("click", act);
      return button;
    };
    bar.replaceChildren(
      choice("Image", shots.map((one) => one.dataset.key), key, open),
      choice("Left", known, state.left, set("left")),
      choice("Right", known, state.right, set("right")),
      choice("Show", [PICTURE, ERROR, DISTANCE], state.mode, set("mode")),
      press("+", "zoom in", () => zoom(state.zoom * 1.5)),
      press("\u2212", "zoom out", () => zoom(state.zoom / 1.5)),
      press("1:1", "one screen pixel per pixel", () => zoom(state.width / (stage.clientWidth * devicePixelRatio))),
      press("4:1", "four screen pixels per pixel", () => zoom((4 * state.width) / (stage.clientWidth * devicePixelRatio))),
      press("All", "show all of it", () => zoom(1)),
    );
    show();
  }

  stage.setAttribute("aria-label", "two versions of the image; arrows move, + and - zoom, 0 shows all");
  addEventListener("resize", place);
  // Rows of the tables link to their image.
  for (const head of document.querySelectorAll("#images tbody th, #lost tbody th")) {
    const key = head.textContent.trim();
    if (!shots.some((one) => one.dataset.key === key)) continue;
    const button = make("button", { type: "button", class: "open", "aria-label": `show ${key} in the gallery` }, "view");
    button.addEventListener("click", async () => {
      await open(key);
      byId("gallery").scrollIntoView();
    });
    head.append(" ", button);
  }
  open(shots[0].dataset.key);
}

colours();
viewer();
costs();
values();
document.querySelectorAll("table").forEach(sortable);
