// Checks the proof of the name on the page, when there is one.

import { check, native } from "./proof.js";

const box = document.querySelector("[data-prove]");
if (box) void prove(box);

async function prove(box) {
  const list = box.querySelector("ol"), verdict = box.querySelector("[role=status]");
  const say = (state, text) => { verdict.className = "state " + state; verdict.textContent = text; };
  try {
    const answer = await fetch(`/v1/names/${encodeURIComponent(box.dataset.prove)}/proof`);
    if (!answer.ok) throw new Error("the server gives no proof for now");
    const proof = await answer.json();
    const entry = await check(proof, box.dataset.prove, box.dataset.vkey, (_, text) => {
      const item = document.createElement("li");
      item.textContent = text;
      list.append(item);
    });
    const shown = box.dataset.address ?? "";
    if ((entry?.address ?? "") !== shown) throw new Error("the proof shows another answer than this page");
    say("good", summary(entry) + known(box.dataset.origin, box.dataset.vkey));
  } catch (e) {
    say("bad", `The proof does not hold: ${e.message}. Do not believe this answer.`);
  }
  box.querySelector("[data-how]").textContent = native
    ? "Checked by this browser's own cryptography."
    : "Checked by this page's scripts: a browser lends its own cryptography to pages loaded by HTTPS only.";
  box.dataset.done = "true";
}

function summary(entry) {
  if (!entry) return "Proven: nobody has this name.";
  return entry.kind === 3 ? "Proven: this name is burnt." : `Proven: ${entry.name} belongs to this account.`;
}

// known remembers the first key seen for a log, so that a server which shows
// this browser another log later is noticed.
function known(origin, vkey) {
  try {
    const slot = "log " + origin, first = localStorage.getItem(slot);
    if (first === null) localStorage.setItem(slot, vkey);
    if (first !== null && first !== vkey) return " The log's key is not the one this browser saw first.";
  } catch { /* storage is off */ }
  return "";
}
