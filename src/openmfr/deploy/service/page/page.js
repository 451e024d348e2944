// The page: tabs, forms, and what the service answers.

import { Photo } from "./photo.js";
import { often, scale } from "./scale.js";
import { Problem, ask, key } from "./service.js";

const find = (selector, within = document) => within.querySelector(selector);
const tabs = [...document.querySelectorAll("[role=tab]")];
let about = { thresholds: {} };

/** Make an element; children are elements or text, so that nothing is read as markup. */
function make(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Tabs, by mouse and by arrow keys.

function select(tab) {
  for (const one of tabs) {
    const isChosen = one === tab;
    one.setAttribute("aria-selected", isChosen);
    one.tabIndex = isChosen ? 0 : -1;
    find(`#${one.getAttribute("aria-controls")}`).hidden = !isChosen;
  }
  if (tab.id === "tab-people") people.list();
}

find("[role=tablist]").addEventListener("click", ({ target }) => target.role === "tab" && select(target));
find("[role=tablist]").addEventListener("keydown", (event) => {
  const shown = tabs.filter((tab) => !tab.hidden);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = shown[(shown.indexOf(event.target) + step + shown.length) % shown.length];
  select(next);
  next.focus();
});

// Forms with photos.

class Form {
  /** @param {string} id  @param {(form: Form, fields: object) => Promise<Element[]>} answer */
  constructor(id, answer) {
    this.panel = find(`#${id}`);
    this.form = find("form", this.panel);
    this.submit = find("[type=submit]", this.form);
    this.place = find(".answer", this.panel);
    this.photos = [...this.panel.querySelectorAll(".photo")].map((at) => new Photo(at, () => this.changed()));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(answer);
    });
    this.changed();
  }

  changed() {
    this.place.replaceChildren();
    this.submit.disabled = this.photos.some((photo) => !photo.file);
  }

  async send(answer) {
    const word = this.submit.textContent;
    this.submit.disabled = true;
    this.submit.textContent = "Working…";
    this.place.replaceChildren();
    try {
      this.place.replaceChildren(...(await answer(this, Object.fromEntries(new FormData(this.form)))));
    } catch (error) {
      this.fail(error);
    } finally {
      this.submit.textContent = word;
      this.submit.disabled = this.photos.some((photo) => !photo.file);
    }
  }

  fail(error) {
    if (!(error instanceof Problem)) throw error;
    const blamed = this.photos.find((photo) => photo.name === error.field);
    if (blamed && this.photos.length > 1) blamed.tell(error.message);
    tell(this.place, error);
  }

  /** Take the first photo that is still missing, or replace the last one. */
  take(file) {
    (this.photos.find((photo) => !photo.file) ?? this.photos.at(-1)).take(file);
  }
}

function tell(place, error) {
  if (error.kind === "no_key") askForKey();
  place.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
}

function meaning({ score, condition, fmr, flag }) {
  const parts = [make("h2", {}, `Score ${score.toFixed(2)}`), scale(score, about.thresholds[condition] ?? [])];
  if (fmr === null) {
    parts.push(make("p", { class: "soft" }, "What scores of this model mean was not measured: openmfr evaluate calibration does."));
  } else {
    const more = flag ? ` (${flag})` : "";
    const words = fmr > 0 ? `Of pairs of strangers, ${often(fmr)} score as high${more}.` : `No pair of strangers scored as high${more}.`;
    parts.push(make("p", {}, words));
  }
  return make("div", {}, ...parts);
}

const compare = new Form("compare", async ({ photos: [first, second] }) => {
  const answer = await ask("verify", {
    method: "POST",
    fields: { first: first.file, second: second.file, first_masked: first.isMasked, second_masked: second.isMasked },
  });
  first.show(answer.first);
  second.show(answer.second);
  return [meaning(answer)];
});

const search = new Form("search", async ({ photos: [photo] }, { top }) => {
  const answer = await ask("search", { method: "POST", fields: { photo: photo.file, masked: photo.isMasked, top } });
  photo.show(answer.face);
  if (!answer.candidates.length) return [make("p", {}, "Nobody is enrolled.")];
  const rows = answer.candidates.map(({ identity, score, fpir }) =>
    make("tr", {}, make("td", {}, identity), make("td", {}, score.toFixed(2)), make("td", {}, fpir === null ? "–" : often(Math.max(fpir, 1e-9)))),
  );
  const heads = ["Person", "Score", "Strangers who would find somebody"].map((text) => make("th", { scope: "col" }, text));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  return [meaning(answer.candidates[0]), make("div", {}, make("h2", {}, "Nearest people"), table)];
});

const enrol = new Form("enrol", async ({ photos: [photo] }, { identity, force }) => {
  const fields = { photo: photo.file, identity, masked: photo.isMasked, force: force ?? null };
  const answer = await ask("enrol", { method: "POST", fields });
  photo.show(answer.face);
  const words = answer.is_new ? `${identity} is enrolled with this photo.` : `This photo of ${identity} was enrolled before.`;
  return [make("p", {}, words)];
});

// People.

const people = {
  place: find("#people .answer"),
  rows: null,
  after: "",

  async list() {
    this.after = "";
    this.rows = make("tbody");
    const heads = ["Person", "Images", "masked", ""].map((text) => make("th", { scope: "col" }, text));
    try {
      const total = await this.more();
      const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), this.rows);
      this.place.replaceChildren(total ? make("div", {}, table) : make("p", {}, "Nobody is enrolled."));
    } catch (error) {
      tell(this.place, error);
    }
  },

  async more() {
    const { people: page, total, next_after: next } = await ask(`people?after=${encodeURIComponent(this.after)}`);
    this.rows.append(...page.map((person) => this.row(person)));
    this.after = next ?? "";
    find("#more").hidden = next === null;
    return total;
  },

  row({ identity, images, masked }) {
    const remove = make("button", { type: "button", class: "plain", "aria-label": `Remove ${identity}`, onclick: () => this.remove(identity) }, "Remove");
    return make("tr", {}, make("td", {}, identity), make("td", {}, `${images}`), make("td", {}, `${masked}`), make("td", {}, remove));
  },

  remove(identity) {
    const dialog = find("#sure");
    find("#sure-text").textContent = `Remove ${identity} and all images of them? This cannot be undone.`;
    dialog.returnValue = "no";
    dialog.onclose = async () => {
      if (dialog.returnValue !== "yes") return;
      try {
        await ask(`people/${encodeURIComponent(identity)}`, { method: "DELETE" });
      } catch (error) {
        tell(this.place, error);
        return;
      }
      await this.list();
    };
    dialog.showModal();
  },
};

find("#more").addEventListener("click", () => people.more().catch((error) => tell(people.place, error)));

// A photo that is pasted goes to the form that is seen.
document.addEventListener("paste", ({ clipboardData }) => {
  const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
  const form = [compare, search, enrol].find(({ panel }) => !panel.hidden);
  if (file && form) form.take(file);
});

// The key, and what the service is.

function askForKey() {
  key.clear();
  find("#key").hidden = false;
  find("#key-text").focus();
}

find("#key").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(find("#key-text").value.trim());
  find("#key-text").value = "";
  start();
});

async function start() {
  try {
    about = await ask("about");
  } catch (error) {
    find("#about").textContent = error.message;
    if (error.kind === "no_key") askForKey();
    return;
  }
  find("#key").hidden = true;
  const images = about.images === 1 ? "1 image" : `${about.images.toLocaleString("en")} images`;
  const enrolled = about.has_gallery ? `, ${images} enrolled` : "";
  find("#about").textContent = `Model ${about.model}${enrolled}`;
  for (const tab of tabs.slice(1)) tab.hidden = !about.has_gallery;
}

start();
