// A program that serves with processes of its own program: [PORT] [CONTROL_FILE], or what it does wrong.
import { serve } from "@winsock/handoff/serve";
import app from "./app.ts";

const VARIABLE = "WINSOCK_HANDOFF_WORKER";
const [word = "0", controlFile] = Deno.args;
const isWorker = Deno.env.has(VARIABLE);

if (word === "never serves" && isWorker) await new Promise((resolve) => setTimeout(resolve, 60_000));
if (word === "exits" && isWorker) Deno.exit(4);
if (word === "is of a worker") {
  Deno.env.set(VARIABLE, JSON.stringify({ supervisor: 1, program: Deno.mainModule, settings: {} }));
}
const port = Number(word) || 0;
const options = { hostname: "127.0.0.1", port, workers: 2, startTimeout: word === "never serves" ? 2_000 : 60_000 };
const server = await serve({
  ...options,
  main: word === "a path" ? import.meta.resolve("./app.ts") : app,
  ...controlFile === undefined ? {} : { controlFile },
  ...word === "flags" ? { denoFlags: ["--allow-net"] } : {},
  onWorker: (line) => console.error(line),
});
if (word === "serves another") await serve({ ...options, main: { fetch: app.fetch } });
console.log(`Listening on http://127.0.0.1:${server.addr.port}/`);
const end = () => void server.shutdown();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  if (Deno.build.os !== "windows" || signal === "SIGINT") Deno.addSignalListener(signal, end);
}
if (Deno.build.os !== "windows") {
  Deno.addSignalListener("SIGHUP", () => server.restart().then(() => console.log("All workers were replaced")));
}
await server.finished;
Deno.exit(0);
