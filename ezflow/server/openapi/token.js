// Fetches the page with a token, since a browser sends none with a link; the playground of this tab may know it already.

const KEY = "ezflow.token";
const form = document.getElementById("ask");
const field = document.getElementById("token");

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function keep(token) {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // then it is asked for again
  }
}

async function read(token) {
  const answer = await fetch("docs", { headers: { Authorization: `Bearer ${token}` } });
  if (answer.status === 401) return "This token is none of the server's.";
  if (!answer.ok) return `The server answered ${answer.status}.`;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  await describe(page, token);
  document.documentElement.replaceWith(document.adoptNode(page.documentElement));
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  return "";
}

/** The link to the description leads to a copy of it: following the link itself would send no token. */
async function describe(page, token) {
  const link = page.querySelector('a[href="openapi.json"]');
  const answer = await fetch("openapi.json", { headers: { Authorization: `Bearer ${token}` } });
  if (link && answer.ok) {
    link.href = URL.createObjectURL(await answer.blob());
    link.download = "openapi.json";
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = document.getElementById("problem");
  try {
    const token = field.value.trim();
    problem.textContent = await read(token);
    if (!problem.textContent) keep(token);
  } catch (error) {
    problem.textContent = `The server cannot be reached: ${error.message}`;
  }
});

const known = kept();
if (known) read(known).catch(() => {});
