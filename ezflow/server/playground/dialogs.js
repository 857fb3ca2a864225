// The dialogs: a token where one is needed, the user's name, help.

import { byId } from "./dom.js";
import { guest } from "./storage.js";

/** `identify(user, token)` is called with what was filled in; a token that was not asked for is undefined. */
export function setUpDialogs(identify) {
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  byId("user").addEventListener("click", () => {
    byId("user-name").value = byId("user").dataset.user;
    byId("user-dialog").showModal();
    byId("user-name").select();
  });
  byId("user-new").addEventListener("click", () => {
    byId("user-name").value = guest();
  });
  byId("user-cancel").addEventListener("click", () => byId("user-dialog").close());
  byId("user-form").addEventListener("submit", () => identify(byId("user-name").value.trim() || guest()));
  byId("token-form").addEventListener("submit", () => {
    identify(byId("token-user").value.trim() || guest(), byId("token").value.trim());
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      // outside of it
      if (event.target === dialog && dialog.id !== "token-dialog") dialog.close();
    });
  }
}

/** Show whose place on the server this is. */
export function showUser(user) {
  const button = byId("user");
  button.dataset.user = user;
  button.textContent = user;
  button.setAttribute("aria-label", `User: ${user}`);
}

/** Ask for a token, saying why; `refused` is the one that was shown, if there was one. */
export function askForToken(user, refused, reason) {
  const again = `The token was refused: ${reason}`;
  const first = "This server asks for a token. Whoever runs it can give you one.";
  byId("token-reason").textContent = refused ? again : first;
  byId("token").value = "";
  byId("token-user").value = user;
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}
