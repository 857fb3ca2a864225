// What the page remembers: for this browser the user's name and the theme, for this tab the token and the options.

/** Read or write without minding a browser that keeps nothing (private windows, blocked storage). */
function kept(storage, key, value) {
  try {
    const area = storage === "browser" ? localStorage : sessionStorage;
    if (value === undefined) return area.getItem(key);
    if (value === null) area.removeItem(key);
    else area.setItem(key, value);
  } catch {
    return null;
  }
  return value;
}

const USER = "ezflow.user";
const THEME = "ezflow.theme";
const TOKEN = "ezflow.token";
const OPTIONS = "ezflow.options";

/** A name for somebody who has not said theirs. */
export function guest() {
  const [number] = crypto.getRandomValues(new Uint16Array(1));
  return `guest-${number.toString(16).padStart(4, "0")}`;
}

export function user() {
  return kept("browser", USER) || setUser(guest());
}

export function setUser(name) {
  kept("browser", USER, name);
  return name;
}

export const theme = () => kept("browser", THEME);
export const setTheme = (name) => kept("browser", THEME, name);

/** The token of this tab; one that stands in the address (`#token=…`) is taken and removed from there. */
export function token() {
  const said = new URLSearchParams(location.hash.slice(1)).get("token");
  if (said) {
    setToken(said);
    history.replaceState(null, "", location.pathname + location.search);
    return said;
  }
  return kept("tab", TOKEN) || undefined;
}

export const setToken = (value) => kept("tab", TOKEN, value);

export function options() {
  try {
    return JSON.parse(kept("tab", OPTIONS) ?? "{}");
  } catch {
    return {};
  }
}

export const setOptions = (values) => kept("tab", OPTIONS, JSON.stringify(values));
