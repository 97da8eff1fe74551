// Parts of a page that change are fetched every two seconds while the page is visible.

for (const part of document.querySelectorAll("[data-refresh]")) {
  const ask = async () => {
    if (document.visibilityState === "visible") {
      const answer = await fetch(part.dataset.refresh).catch(() => null);
      if (answer?.ok && !answer.redirected) part.innerHTML = await answer.text();
    }
    setTimeout(ask, 2000);
  };
  setTimeout(ask, 2000);
}
