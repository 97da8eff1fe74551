// Runs in every page that the tests' browsers open; `controls.py` hears what it says on the console.
// A control is told as: where it stands, what it is, the address it leads to, what tells it from others that lead there.
(() => {
  const zones = {"header.top, .skip": "menu", "footer": "foot", ".tabs": "tabs", ".guide-contents": "contents",
    ".crumbs": "crumbs", ".secret": "secret", ".lonely:has(.error-code)": "error"};
  const zone = (element) => {
    for (const [selector, name] of Object.entries(zones)) if (element.closest(selector)) return name;
    return location.pathname;
  };
  const action = (form) => (form ? form.getAttribute("action") ?? location.pathname : "");
  // Sets of rights are numbered, and there may be any number of them.
  const called = (field) => field.name.replace(/^(right|projects)-\d+$/, "$1-more");
  const value = (field) => `${called(field)}=${field.value}`;
  const told = (form) => ["kind", "disabled"].map((name) => form?.querySelector(`[type=hidden][name=${name}]`))
    .filter(Boolean).map(value);
  const copied = (button) => button.dataset.copyFrom
    ?? (button.closest("#answers") ? "an answer" : null)
    ?? (button.closest("article") ? "an example" : null)
    ?? button.parentElement.querySelector("code[id]")?.id
    ?? button.dataset.copy.replace(/^sha256:.*/, "digest").replace(/^robot-\S+$/, "robot").split(" ").slice(0, 2).join(" ");
  // A page of a list is one control, whatever the list is narrowed to.
  const asks = (search) => {
    const given = new URLSearchParams(search);
    for (const turn of ["after", "before"]) if (given.has(turn)) return `?${turn}`;
    return given.has("show") ? `?show=${given.get("show")}` : "";
  };
  const link = (element) => {
    if (element.hasAttribute("download")) return ["download", ""];
    if (element.origin !== location.origin) return null;
    const target = element.getAttribute("href");
    // Within the guide's own text.
    if (target.startsWith("#")) return element.closest("article") ? null : ["jump", "", target];
    return ["link", element.pathname, asks(element.search)];
  };
  const button = (element) => {
    if (element.dataset.copy !== undefined || element.dataset.copyFrom) return ["copy", "", copied(element)];
    if (element.dataset.try) return ["example", "", element.textContent.trim()];
    if (element.hasAttribute("data-theme-switch")) return ["colours", ""];
    return ["button", action(element.form), ...told(element.form), element.name ? value(element) : ""];
  };
  const describe = (element) => {
    switch (element.localName) {
      case "a": return link(element);
      case "button": return button(element);
      case "summary": {
        const details = element.parentElement;
        return ["fold", action(details.querySelector("form")), details.className];
      }
      // Nobody can send it but without scripts.
      case "form": return element.dataset.addresses ? null
        : ["form", action(element), element.method, ...told(element)];
      default: {
        const choice = ["radio", "checkbox"].includes(element.type);
        return ["field", action(element.form), ...told(element.form), choice ? value(element) : called(element)];
      }
    }
  };
  const everything = "a[href], summary, button, form, select, textarea, input:not([type=hidden])";
  const names = (elements) => elements.filter((one) => !one.closest(".no-js-only")).map((one) => [one, describe(one)])
    .filter(([, said]) => said).map(([one, said]) => [zone(one), ...said]);
  const tell = (what, elements) => console.debug("controls " + JSON.stringify([what, names([...elements])]));
  const look = () => tell("shown", document.querySelectorAll(everything));
  document.addEventListener("DOMContentLoaded", look);
  for (const event of ["click", "input", "change", "submit"]) {
    document.addEventListener(event, (happened) => {
      // Scripts bring some into a page after it was shown: the answers of the address helper.
      look();
      const element = happened.target.closest?.(event === "click" ? "a[href], summary, button" : everything);
      if (element) tell("used", [element]);
    }, true);
  }
  window.nameOfControl = (element) => names([element])[0] ?? null;
})();
