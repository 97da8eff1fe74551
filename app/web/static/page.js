// Conveniences for all pages. The pages work without them.

const announce = (text) => {
  const place = document.getElementById("announce");
  place.textContent = "";
  requestAnimationFrame(() => (place.textContent = text));
};

const write = async (text) => {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Browsers give no clipboard to pages without TLS.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
};

const copy = async (button) => {
  const from = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  await write(from ? (from.value ?? from.textContent) : button.dataset.copy);
  announce(document.body.dataset.copied);
  button.classList.add("is-copied");
  setTimeout(() => button.classList.remove("is-copied"), 1600);
};

const theme = () => document.documentElement.dataset.bsTheme;

const switches = () => document.querySelectorAll("[data-theme-switch]");

const showTheme = () => switches().forEach((one) => one.setAttribute("aria-pressed", String(theme() === "dark")));

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (button) void copy(button);
  if (event.target.closest("[data-theme-switch]")) {
    document.documentElement.dataset.bsTheme = theme() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", theme());
    } catch {
      // Storage is turned off, so the choice holds for this page only.
    }
    showTheme();
  }
});

// A menu closes when anything else is clicked, or gets the focus.
for (const left of ["click", "focusin"]) {
  document.addEventListener(left, (event) => {
    for (const open of document.querySelectorAll("details.drop[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
}

// A slash moves to the search field, unless somebody is typing in a field.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  const field = document.querySelector("[data-slash]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing || !field) return;
  event.preventDefault();
  field.focus();
  field.select();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.drop[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// A part of a form that belongs to a box is shown only while the box is ticked.
for (const box of document.querySelectorAll("[data-shows]")) {
  const part = document.getElementById(box.dataset.shows);
  const follow = () => {
    part.hidden = !box.checked;
    for (const field of part.querySelectorAll("input, select, textarea")) field.disabled = !box.checked;
  };
  box.addEventListener("change", follow);
  follow();
}

// The button that deletes is disabled until the name is typed.
for (const field of document.querySelectorAll("[data-must-be]")) {
  const button = field.form.querySelector("[type=submit], button:not([type])");
  const follow = () => (button.disabled = field.value !== field.dataset.mustBe);
  field.addEventListener("input", follow);
  follow();
}

// A row of tabs that is wider than the screen is scrolled so that the open tab is in the middle.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
  const row = tab.parentElement;
  row.scrollLeft = tab.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2;
}

// A second click on a form's button sends nothing. Later it may, because somebody may have stopped the first one.
const sent = new Set();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (sent.has(form)) event.preventDefault();
  else keepDraft(form);
  sent.add(form);
  setTimeout(() => sent.delete(form), 3000);
});

// If the session has ended, the answer to a form is the log-in page. After the log-in the form is as it was typed. The
// draft stays in this tab, and only for the person who typed it. Passwords and other hidden fields are never kept.
const who = document.body.dataset.who;
const draftName = "draft";

const stored = (work) => {
  try {
    return work(sessionStorage);
  } catch {
    return null; // storage is turned off
  }
};

const typedFields = (form) =>
  [...form.elements].filter((field) => field.name && !["hidden", "password", "submit", "button"].includes(field.type));

const isChoice = (field) => ["checkbox", "radio"].includes(field.type);

const keepDraft = (form) => {
  if (!who) return;
  const fields = typedFields(form).map(({ name, value, checked }) => ({ name, value, checked }));
  const draft = { who, page: location.pathname, action: form.getAttribute("action"), fields };
  stored((storage) => storage.setItem(draftName, JSON.stringify(draft)));
};

const restoreDraft = () => {
  const draft = JSON.parse(stored((storage) => storage.getItem(draftName)) ?? "null");
  if (draft && document.body.matches(".login")) {
    stored((storage) => storage.setItem(draftName, JSON.stringify({ ...draft, asked: true })));
    return;
  }
  stored((storage) => storage.removeItem(draftName));
  if (!draft?.asked || draft.who !== who || draft.page !== location.pathname) return;
  const form = [...document.forms].find((one) => one.getAttribute("action") === draft.action);
  for (const { name, value, checked } of form ? draft.fields : []) {
    const field = typedFields(form).find((one) => one.name === name && (!isChoice(one) || one.value === value));
    if (!field) continue;
    if (isChoice(field)) field.checked = checked;
    else field.value = field.defaultValue = value;
    field.dispatchEvent(new Event(isChoice(field) ? "change" : "input"));
  }
  for (let fold = form?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
};

restoreDraft();

// A form that was opened before this person logged in again in another tab gets the new session's token from there.
const tokens = () => document.querySelectorAll("input[name=_xsrf]");
const tabs = new BroadcastChannel("tokens");
tabs.addEventListener("message", ({ data }) => {
  if (who && data.who === who) for (const field of tokens()) field.value = data.token;
});
if (who && tokens().length) tabs.postMessage({ who, token: tokens()[0].value });

showTheme();
