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
  // A menu closes when anything else is clicked.
  for (const open of document.querySelectorAll("details.drop[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

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

// Choices that take effect at once have a button for those without JavaScript.
for (const field of document.querySelectorAll("[data-sends]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
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

showTheme();
