"use strict";
const at = (id) => document.getElementById(id);
const NAMES = { input: "input, enlarged", student: "student", teacher: "teacher" };
let pictures = {};
let limits = {};
let turn = 0;

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

function slide(percent) {
  const share = Math.min(100, Math.max(0, percent));
  at("slider").value = share;
  at("left").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  at("line").style.left = `${share}%`;
}

function show() {
  for (const side of ["left", "right"]) {
    const name = at(`${side}-of`).value;
    at(side).src = pictures[name];
    at(side).alt = NAMES[name];
  }
}

async function restore(file) {
  if (!at("student").value) return;
  if (file.size > limits.bytes) return say(`The file is larger than ${limits.bytes / 1e6} MB.`, true);
  const mine = ++turn;
  say("Restoring …");
  try {
    const response = await fetch(`/restore?student=${encodeURIComponent(at("student").value)}`, {
      method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" },
    });
    const answer = await response.json();
    if (mine !== turn) return;
    if (!response.ok) return say(answer.message, true);
    pictures = answer;
    show();
    at("result").hidden = false;
    say("");
    at("facts").textContent = `${answer.width}×${answer.height}, ×${answer.scale}; student ${answer.student_seconds} s, `
      + `teacher ${answer.teacher_seconds} s`;
  } catch {
    if (mine === turn) say("The page's server does not answer. Is `make demo` still running?", true);
  }
}

function again() {
  const [file] = at("file").files;
  if (file) restore(file);
}

for (const [side, first] of [["left", "input"], ["right", "student"]]) {
  for (const [name, text] of Object.entries(NAMES)) at(`${side}-of`).add(new Option(text, name, false, name === first));
  at(`${side}-of`).addEventListener("change", show);
}
at("slider").addEventListener("input", () => slide(at("slider").valueAsNumber));
at("stage").addEventListener("pointermove", (event) => {
  const box = at("stage").getBoundingClientRect();
  if (event.buttons || event.pointerType === "mouse") slide((event.clientX - box.left) / box.width * 100);
});
at("file").addEventListener("change", again);
at("student").addEventListener("change", again);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  at("file").files = event.dataTransfer.files;
  again();
});
slide(50);
fetch("/students").then((response) => response.json()).then((answer) => {
  limits = answer;
  for (const name of answer.students) at("student").add(new Option(name, name));
  at("student").disabled = at("file").disabled = !answer.students.length;
  say(answer.message, Boolean(answer.message));
});
