// Keeps the moving parts of a page as they are now, while somebody looks at it.

const every = async (seconds, work) => {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    if (document.visibilityState === "visible") await work().catch(() => null);
  }
};

const fetched = async (address) => {
  const answer = await fetch(address);
  // A redirect leads to the log-in page: the session has ended.
  return answer.ok && !answer.redirected ? answer.text() : null;
};

// Running downloads have an address of their own.
void every(2, async () => {
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const text = await fetched(part.dataset.refresh);
    if (text !== null) part.innerHTML = text;
  }
});

// Any other part is taken from the page itself. A part that somebody is using is left alone.
const inUse = (part) =>
  part.contains(document.activeElement) ||
  part.querySelector("details[open], input:checked") !== null ||
  (getSelection()?.type === "Range" && getSelection().containsNode(part, true));

void every(10, async () => {
  const parts = [...document.querySelectorAll("[data-live]")].filter((part) => !inUse(part));
  const text = parts.length ? await fetched(location.href) : null;
  if (text === null) return;
  const now = new DOMParser().parseFromString(text, "text/html");
  for (const part of parts) {
    const newer = now.getElementById(part.id);
    if (newer && !inUse(part)) part.replaceChildren(...newer.childNodes);
  }
});
