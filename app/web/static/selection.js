// The selection in a list of tags: all of a page at once, how many there are, and their addresses to copy.

const boxes = () => [...document.querySelectorAll("input[form=selection][name=tag]")];

const follow = () => {
  const all = document.querySelector("[data-select-all]");
  if (!all) return;
  const chosen = boxes().filter((box) => box.checked);
  all.checked = chosen.length > 0 && chosen.length === boxes().length;
  document.querySelector("[data-selected]").textContent = chosen.length || "";
  document.getElementById("addresses").textContent = chosen.map((box) => box.dataset.address).join("\n");
  document.querySelector("[data-copy-from=addresses]").disabled = chosen.length === 0;
};

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-select-all]")) for (const box of boxes()) box.checked = event.target.checked;
  follow();
});

follow();
