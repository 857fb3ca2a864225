// What the types must refuse: each line that ends in "wrong" is one error, and nothing else is.
import { Client, Live, Refused } from "ezflow/ezflow.js";
import type { Event } from "ezflow/ezflow.js";
import { Microphone, Player } from "ezflow/sound.js";

declare const client: Client;
declare const live: Live;
declare const event: Event;

new Client(5); // wrong
new Client("http://127.0.0.1", { usr: "ann" }); // wrong
client.turn(() => "a function"); // wrong
client.turn("x", { entry: { name: "llm" } }); // wrong
client.turn("x", { options: { LLM: 5 } }); // wrong
client.turn("x", { format: { rate_hz: 16_000 } }); // wrong
client.live({ format: { rate: 16_000 } }); // wrong
client.schema("everything"); // wrong
new Live(); // wrong
live.over = true; // wrong
live.played({ type: "text" }, 5); // wrong
live.send("x", "llm"); // wrong
event.text; // wrong
if (event.type === "text") event.pcm; // wrong
if (event.type === "audio") event.text; // wrong
if (event.type === "turn.ended" && event.reason === "over") live.end(); // wrong
if (event.type === "speech") live.end(); // wrong
new Refused({ status: 401 }).status.toFixed(); // wrong
new Player({ played: (ms: string) => ms }); // wrong
new Microphone().level = 5; // wrong
new Microphone().start((frame: string) => frame); // wrong
for (const each of live) live.send(each.type); // wrong
