// The address helper answers while somebody types. The script only sends the text; the service reads it.

const form = document.querySelector("[data-addresses]");
const area = form.querySelector("textarea");
const answers = document.getElementById("answers");
const samples = document.getElementById("samples");
let waiting = 0;
let asked = 0;

const ask = async () => {
  const mine = ++asked;
  if (area.value.trim() === "") {
    answers.replaceChildren();
    if (samples) samples.hidden = false;
    return;
  }
  const answer = await fetch(form.dataset.addresses, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  // The answer to an older question may come last.
  if (!answer.ok || mine !== asked) return;
  answers.innerHTML = await answer.text();
  if (samples) samples.hidden = true;
};

area.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(ask, 250);
});

for (const button of document.querySelectorAll("[data-try]")) {
  button.addEventListener("click", () => {
    area.value = button.dataset.try;
    area.focus();
    void ask();
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
