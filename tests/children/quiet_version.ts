// A version of a server that prints nothing: "well" closes what it accepts, "hang" never begins, and "take no listener"
// takes connections only.
import { inherit, receive } from "@winsock/handoff";

const [mode] = Deno.args;
if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
if (mode === "take no listener") { for await (const { socket } of receive()) socket.close(); }

const version = await inherit();
const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
await version.markReady();
for await (const socket of listener) socket.close();
